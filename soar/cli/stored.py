"""The store, and who may act on it: enough to look, to decide and to halt while anything else is broken."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from soar.cli.base import settings
from soar.engine.approvals import ApprovalDesk
from soar.engine.authority import Authority
from soar.engine.control import Control
from soar.engine.scribe import Scribe
from soar.engine.suppressing import Suppressor
from soar.model.clock import SystemClock, UlidSource
from soar.policy.bundle import load_bundle
from soar.service import person_of
from soar.service.authority import authority_of, people_of
from soar.service.storage import store_of
from soar.settings import Loaded
from soar.store.port import Store


@dataclass(frozen=True, slots=True)
class Stored:
    """An open store. Neither connectors nor playbooks and mappings are loaded: the kill switch needs none."""

    loaded: Loaded
    store: Store
    scribe: Scribe

    def person(self, named: str | None) -> str:
        """Who acts; raises NotAllowedError."""
        return person_of(self.loaded, named)

    def desk(self) -> ApprovalDesk:
        """Where people's decisions are taken."""
        people, authority = people_of(self.loaded), self._authority()
        return ApprovalDesk(store=self.store, scribe=self.scribe, people=people, authority=authority)

    def suppressor(self, person: str) -> Suppressor:
        """What this person may hold back."""
        return Suppressor(store=self.store, scribe=self.scribe, person=person, authority=self._authority())

    def control(self, person: str) -> Control:
        """What this person may do to runs."""
        return Control(store=self.store, scribe=self.scribe, person=person, authority=self._authority())

    def _authority(self) -> Authority:
        """Policy is read when it is asked, so that it may be broken while the kill switch is set."""
        policies = self.loaded.path(self.loaded.settings.policy.path)
        return authority_of(self.loaded, self.store, self.scribe, lambda: load_bundle(policies))


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
