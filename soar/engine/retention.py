"""What age does: payloads move to the archive, and state that ended long ago leaves. Entries stay for ever.

Small batches, each a transaction of its own, with time between them for those who work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import structlog

from soar.engine.scribe import Scribe
from soar.errors import JournalError, NotAllowedError, StoreError
from soar.journal.archive import PAYLOAD_ARCHIVED, ArchiveFolder, Kept
from soar.model.base import to_rfc3339
from soar.model.entry import Entry, EntryType
from soar.store.aging import Forgotten
from soar.store.port import Store

log = structlog.get_logger(__name__)

FIRST_SECONDS = 60.0
EVERY_SECONDS = 24 * 3600.0
PAUSE_SECONDS = 0.5
PAYLOADS_MAX = 2000  # in one file
ROWS_MAX = 500  # of one kind in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one round did."""

    payloads: int
    files: int
    forgotten: Forgotten


class Retention:
    """Lets go of what is older than some days. A crash loses nothing: a payload is durable in a file before it goes."""

    def __init__(
        self,
        *,
        store: Store,
        scribe: Scribe,
        folder: ArchiveFolder,
        days: int,
        payloads_max: int = PAYLOADS_MAX,
        rows_max: int = ROWS_MAX,
    ) -> None:
        self._store = store
        self._scribe = scribe.acting_as("retention")
        self._folder = folder
        self._days = days
        self._payloads_max = payloads_max
        self._rows_max = rows_max

    async def run(self) -> None:
        """Do it once a day until cancelled."""
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            try:
                swept = await self.sweep(pause_seconds=PAUSE_SECONDS)
                log.info("retention.swept", payloads=swept.payloads, files=swept.files, rows=swept.forgotten.rows)
            except NotAllowedError as failure:
                log.warning("retention.not_allowed", why=str(failure), remedy="run `soar audit archive` as the owner")
            except (StoreError, JournalError) as failure:
                log.warning("retention.put_off", why=str(failure))
            await asyncio.sleep(EVERY_SECONDS)

    async def sweep(self, *, pause_seconds: float = 0.0) -> Swept:
        """Do all that is due now.

        Raises StoreUnavailableError where store or folder cannot be had, NotAllowedError where the store's rules do not
        let us.
        """
        before = self._scribe.clock.now() - timedelta(days=self._days)
        forgotten = Forgotten()
        while (more := await self._forget(before)).rows:
            forgotten += more
            await asyncio.sleep(pause_seconds)
        payloads, files = await self._archive(before, pause_seconds)
        return Swept(payloads=payloads, files=files, forgotten=forgotten)

    async def _forget(self, before: datetime) -> Forgotten:
        def tell(gone: Forgotten) -> Entry:
            data = {"before": to_rfc3339(before), **asdict(gone)}
            return self._scribe.entry(EntryType.STATE_FORGOTTEN, "store", data=data)

        return await self._store.forget(before, limit=self._rows_max, tell=tell)

    async def _archive(self, before: datetime, pause_seconds: float) -> tuple[int, int]:
        found = await self._store.old_payloads(before, after="", limit=self._payloads_max)
        payloads = files = 0
        # Where nothing is due the folder is tidied all the same: a crash may have come between it and the last file.
        if not found.payloads and found.after is None and not self._folder.path.is_dir():
            return payloads, files
        with self._folder.alone():
            while True:
                if found.payloads:
                    await self._move(found.payloads)
                    payloads, files = payloads + len(found.payloads), files + 1
                if found.after is None:
                    break
                await asyncio.sleep(pause_seconds)
                found = await self._store.old_payloads(before, after=found.after, limit=self._payloads_max)
            await self._tidy()
        return payloads, files

    async def _move(self, payloads: Sequence[Kept]) -> None:
        """File first, then store. If we crash between, the file counts for nothing and the payloads are still there."""
        file = await asyncio.to_thread(self._folder.put, payloads)
        told = self._scribe.entry(EntryType.PAYLOAD_ARCHIVED, file.name, data=file.data)
        await self._store.archive([each.id for each in payloads], told)

    async def _tidy(self) -> None:
        leaves = await self._store.leaves(PAYLOAD_ARCHIVED)
        await asyncio.to_thread(self._folder.knowing(leaves).sweep)
