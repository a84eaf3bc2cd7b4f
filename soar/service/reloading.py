"""Playbooks that change while the service runs: a new set comes into force between two batches of alerts.

An alert is matched against one set, the old or the new, so none is lost or counted twice. Runs keep the version that
they began with. What is new is durable before any run can name it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from soar.engine.recorder import Recorder
from soar.engine.scribe import Data, Scribe
from soar.errors import StoreError
from soar.library.folder import Library, files_below, keeping
from soar.library.index import TriggerIndex
from soar.model.entry import EntryType
from soar.service.assembly import Service, index_of, library_of
from soar.store.port import Fact, InsertPlaybook

log = structlog.get_logger(__name__)

WATCH_SECONDS = 2.0


class Reloader:
    """Loads playbooks anew when it is asked to, and when their files change where that is watched."""

    def __init__(self, service: Service, recorder: Recorder, *, worker: str) -> None:
        self.reloaded = 0  # sets that came into force
        self._service = service
        self._recorder = recorder
        self._worker = worker
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Load them as soon as possible; returns at once."""
        self._asked.set()

    async def run(self) -> None:
        """Until cancelled."""
        watched = self._service.loaded.settings.watch_playbooks
        while True:
            try:
                await asyncio.wait_for(self._asked.wait(), WATCH_SECONDS if watched else None)
            except TimeoutError:
                await self.look()
            else:
                self._asked.clear()
                await self.reload()

    async def look(self) -> None:
        """Reload where a file is another one than was loaded last, or has come or gone."""
        loaded = self._service.loaded
        folders = [loaded.path(path) for path in loaded.settings.playbooks]
        if await asyncio.to_thread(files_below, folders) != self._service.library.files:
            await self.reload()

    async def reload(self) -> None:
        """Bring what the folders hold into force, once the journal has it; a broken file keeps its old version."""
        service = self._service
        before = service.library
        # Thousands of playbooks take seconds: on a thread, so that heartbeats and leases go on meanwhile.
        after, index = await asyncio.to_thread(_load, service, before)
        for error in after.errors:
            log.warning("playbook.refused", error=str(error))
        if after.digest == before.digest:
            service.library = after  # its errors may be others
            log.info("playbooks.unchanged", playbooks=len(after.playbooks), refused=len(after.errors))
            return
        try:
            await self._recorder.record(loaded(after, service.scribe, self._worker, before=before))
        except StoreError as failure:
            log.warning("playbooks.not_reloaded", error=str(failure))
            return
        service.library, service.index = after, index
        self.reloaded += 1
        log.info("playbooks.reloaded", playbooks=len(after.playbooks), refused=len(after.errors), digest=after.digest)


def loaded(library: Library, scribe: Scribe, worker: str, *, before: Library | None = None) -> Fact:
    """What the journal is told of a set of playbooks before it is in force, and the text of each.

    With the set that was in force `before` it says too which playbooks changed, from which digest to which.
    """
    playbooks = library.playbooks.values()
    pins = tuple(
        InsertPlaybook(digest=p.digest, playbook_id=p.id, file=p.file, text=library.text_of(p.digest))
        for p in playbooks
    )
    new = {p.id: p.digest for p in playbooks}
    payload: dict[str, Any] = {"playbooks": new}
    data: Data = {"playbooks": len(playbooks), "refused": len(library.errors), "worker": worker}
    if before is not None:
        old = {p.id: p.digest for p in before.playbooks.values()}
        changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        payload["changed"] = {name: {"old": old.get(name), "new": new.get(name)} for name in changed}
        data |= {"replaces": before.digest, "changed": len(changed)}
    entry = scribe.entry(EntryType.PLAYBOOKS_LOADED, library.digest, payload=payload, data=data)
    return Fact(writes=pins, entries=(entry,))


def _load(service: Service, before: Library) -> tuple[Library, TriggerIndex]:
    after = keeping(before, library_of(service.loaded, service.registry.catalogue()))
    return after, index_of(after)
