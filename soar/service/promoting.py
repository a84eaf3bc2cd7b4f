"""Another policy revision comes into force while the service runs: checked whole, journalled, then taken at once.

A bundle that is wrong anywhere is refused, and the revision in force stays. Runs under way decide again before they
send, by the new revision; approvals that were bound to the old one are asked for anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import structlog

from soar.engine.promotion import Promoted, promoted
from soar.engine.recorder import Recorder
from soar.engine.scribe import Scribe
from soar.errors import ConfigError, Place, PolicyError, StoreError
from soar.model.entry import EntryType
from soar.policy.bundle import Bundle
from soar.policy.gate import Gate
from soar.policy.port import PolicyEngine
from soar.policy.testing import proven
from soar.store.port import Fact, Store

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
"""How often the row that says what is promoted is read."""
AGAIN_SECONDS = 15.0
"""How long after a refusal the folder is tried again: it may be written machine by machine."""


class Promotion:
    """Follows promotions, and signals. `make` gives an engine for a bundle, `taken` hears of the one in force."""

    def __init__(
        self,
        *,
        gate: Gate,
        folder: Path,
        make: Callable[[Bundle], PolicyEngine],
        taken: Callable[[Bundle], None],
        store: Store,
        recorder: Recorder,
        scribe: Scribe,
    ) -> None:
        self._gate = gate
        self._folder = folder
        self._make = make
        self._taken = taken
        self._store = store
        self._recorder = recorder
        self._scribe = scribe
        self._signalled = asyncio.Event()
        self._followed: Promoted | None = None
        self._refused: Promoted | None = None
        self._not_before = 0.0
        self._told: str | None = None

    def signal(self) -> None:
        """Look at the folder now, as SIGHUP asks."""
        self._signalled.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._signalled.wait()
            if self._signalled.is_set():
                self._signalled.clear()
                await self._attempt("signal", None)
            else:
                await self._follow()

    async def take(self, *, by: str, wanted: str | None = None) -> bool:
        """Bring the folder's revision into force; False where it is already.

        Raises PolicyError where it is not fit, or not the one `wanted`, and StoreError where the journal cannot be
        told: then nothing has changed.
        """
        bundle = await asyncio.to_thread(_checked, self._folder)
        if isinstance(bundle, PolicyError):
            raise bundle
        if wanted not in {None, bundle.revision}:
            found = f"holds revision {bundle.revision[:12]}, not {str(wanted)[:12]}, which {by} promoted"
            raise PolicyError(
                f"{found}; bring the folder up to date, or promote what it holds", Place(str(self._folder))
            )
        was = self._gate.revision
        if bundle.revision == was:
            return False
        engine = await asyncio.to_thread(self._make, bundle)
        try:
            await engine.open()
        except PolicyError:
            await engine.close()
            raise
        data: dict[str, str | int | bool] = {"engine": engine.name, "was": was, "by": by}
        try:
            told = self._scribe.entry(EntryType.POLICY_LOADED, bundle.revision, data=data)
            await self._recorder.record(Fact(entries=(told,)))
        except StoreError:
            await engine.close()
            raise
        # If we crash here, the journal speaks of a revision that decided nothing; the next start tells its own.
        before = self._gate.replace(engine, mandatory_controls=bundle.mandatory_controls)
        self._taken(bundle)
        log.info("policy.promoted", revision=bundle.revision, was=was, by=by)
        await before.close()
        return True

    async def _follow(self) -> None:
        try:
            wanted = await promoted(self._store)
        except StoreError:
            return  # health tells it; the next look finds what was promoted meanwhile
        if wanted is None or wanted == self._followed:
            return
        now = asyncio.get_running_loop().time()
        if wanted == self._refused and now < self._not_before:
            return
        if await self._attempt(wanted.by, wanted.revision):
            self._followed = wanted
        else:
            self._refused, self._not_before = wanted, now + AGAIN_SECONDS

    async def _attempt(self, by: str, wanted: str | None) -> bool:
        """Whether what is wanted is in force now; why not is logged once."""
        try:
            await self.take(by=by, wanted=wanted)
        except (ConfigError, PolicyError, StoreError) as failure:
            if wanted is None or self._told != str(failure):
                log.warning("policy.not_promoted", why=str(failure), by=by, in_force=self._gate.revision)
            self._told = str(failure)
            return False
        self._told = None
        return True


def _checked(folder: Path) -> Bundle | PolicyError:
    """The bundle if it is fit, else why not: as a value, as a traceback would hold engines of the thread it is from."""
    try:
        return proven(folder)
    except PolicyError as failure:
        return PolicyError(failure.message, failure.place)
