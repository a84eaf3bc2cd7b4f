"""The file source: NDJSON with a record per line, or one JSON document. The same content is consumed once."""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import structlog

from soar.engine.admission import Admitted
from soar.errors import InputError, Place, RecordError
from soar.ingest.payload import MAX_BYTES, parse
from soar.model.alert import Outcome, Record
from soar.model.clock import Clock

log = structlog.get_logger(__name__)

Admit = Callable[[Sequence[Record]], Awaitable[Sequence[Admitted]]]
Progress = Callable[[int, int], None]
"""Told after each batch: bytes admitted, bytes in all."""

STDIN = Path("-")
BATCH_RECORDS = 500
BATCH_BYTES = 4 << 20
MAX_LINE_BYTES = 8 << 20
"""A longer line is read up to here. It is far above what one record may hold, and dead-lettered for that."""
LISTED_DEAD_LETTERS = 100
_SPOOL_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What became of the records of all files."""

    records: int = 0
    redelivered: int = 0  # records that were consumed before, and so were left alone
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    runs: int = 0
    dead_letters: tuple[Admitted, ...] = ()  # the first `LISTED_DEAD_LETTERS` of them

    def with_batch(self, records: Sequence[Record], admitted: Sequence[Admitted]) -> FileReport:
        """The report with one more batch in it."""
        fresh = {item.coordinates for item in admitted}
        dead = [item for item in admitted if item.outcome is Outcome.DEAD_LETTER]
        return FileReport(
            records=self.records + len(records),
            redelivered=self.redelivered + sum(record.coordinates not in fresh for record in records),
            outcomes=Counter(self.outcomes) + Counter(item.outcome for item in admitted),
            runs=self.runs + sum(len(item.run_ids) for item in admitted),
            dead_letters=(*self.dead_letters, *dead)[:LISTED_DEAD_LETTERS],
        )


class FileSource:
    """Reads files, each in batches of bounded size; `-` is standard input, read to its end before the first record.

    A record's topic is its file's digest and its offset the line it starts on: what was consumed before, under
    whatever name, is recognised. An interrupted `run` is continued by running it again.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        clock: Clock,
        source: str = "file",
        mapping: str | None = None,
        progress: Progress = lambda done, total: None,
        stdin: BinaryIO | None = None,
    ) -> None:
        self._paths = tuple(paths)
        self._clock = clock
        self._source = source
        self._mapping = mapping
        self._progress = progress
        self._stdin = stdin

    async def run(self, admit: Admit) -> FileReport:
        """Admit every record of every file.

        Raises InputError before the first record where a file cannot be read, and StoreUnavailableError where the
        store is lost on the way; what was admitted until then stays.
        """
        sizes = [_size(path) for path in self._paths]
        total, done = sum(sizes), 0
        report = FileReport()
        for path in self._paths:
            batches = self._batches(path)
            # Off the loop: a slow disk or pipe must not hold up whoever else runs here.
            while batch := await asyncio.to_thread(next, batches, None):
                report = report.with_batch(batch.records, await admit(batch.records))
                done += batch.size_bytes
                self._progress(done, max(total, done))
        return report

    def _batches(self, path: Path) -> Iterator[_Batch]:
        with self._opened(path) as stream:
            content = _Content.of(stream, str(path))
            log.info("file.reading", file=str(path), size_bytes=content.size, digest=content.digest)
            batch = _Batch()
            for offset, value, size in content.values():
                if value:
                    batch.records.append(self._record(content.digest, offset, value))
                batch.size_bytes += size
                if len(batch.records) >= BATCH_RECORDS or batch.size_bytes >= BATCH_BYTES:
                    yield batch
                    batch = _Batch()
            if batch.size_bytes:
                yield batch

    def _record(self, digest: str, offset: int, value: bytes) -> Record:
        return Record(
            source=self._source,
            topic=digest,
            offset=offset,
            value=value,
            mapping=self._mapping,
            received_at=self._clock.now(),
        )

    @contextmanager
    def _opened(self, path: Path) -> Iterator[BinaryIO]:
        if path != STDIN:
            with path.open("rb") as stream:
                yield stream
            return
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
            shutil.copyfileobj(self._stdin or sys.stdin.buffer, spool)
            yield spool
