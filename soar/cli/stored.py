"""The store, and who may act on it: enough to look, to decide and to halt while anything else is broken."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from soar.cli.base import settings
from soar.engine.approvals import ApprovalDesk, People
from soar.engine.control import Control
from soar.engine.scribe import Scribe
from soar.engine.suppressing import Suppressor
from soar.model.approval import Person
from soar.model.clock import SystemClock, UlidSource
from soar.service import person_of
from soar.service.storage import store_of
from soar.settings import Loaded
from soar.store.port import Store


@dataclass(frozen=True, slots=True)
class Stored:
    """An open store. Neither connectors nor policy, playbooks and mappings are loaded: the kill switch needs none."""

    loaded: Loaded
    store: Store
    scribe: Scribe

    def person(self, named: str | None) -> str:
        """Who acts; raises NotAllowedError."""
        return person_of(self.loaded, named)

    def desk(self) -> ApprovalDesk:
        """Where people's decisions are taken."""
        people = [Person(name=each.name, groups=each.groups) for each in self.loaded.settings.people]
        return ApprovalDesk(store=self.store, scribe=self.scribe, people=People(people))

    def suppressor(self, person: str) -> Suppressor:
        """What this person may hold back."""
        return Suppressor(store=self.store, scribe=self.scribe, person=person)

    def control(self, person: str) -> Control:
        """What this person may do to runs."""
        return Control(store=self.store, scribe=self.scribe, person=person)


@contextlib.asynccontextmanager
async def stored(config: Path | None) -> AsyncIterator[Stored]:
    """The store that the configuration names, made where there is none yet; raises StoreUnavailableError."""
    loaded = settings(config)
    store = store_of(loaded)
    try:
        await store.open()
        yield Stored(loaded, store, Scribe(clock=SystemClock(), ids=UlidSource()))
    finally:
        await store.close()
