"""The file source: a record per line, or one JSON document. The same content is consumed once."""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import structlog

from soar.engine.admission import Admit, Admitted
from soar.errors import InputError, Place, RecordError
from soar.ingest.payload import MAX_BYTES, parse
from soar.model.alert import Outcome, Record
from soar.model.clock import Clock

log = structlog.get_logger(__name__)

Progress = Callable[[int, int], None]
"""Told after each batch: bytes done, bytes in all."""

STDIN = Path("-")
BATCH_RECORDS = 500
BATCH_BYTES = 4 << 20
MAX_LINE_BYTES = 8 << 20
"""A longer line is cut here. That is far more than one record may hold, so it becomes a dead letter either way."""
LISTED_DEAD_LETTERS = 100
_SPOOL_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What became of the records of all files."""

    records: int = 0
    redelivered: int = 0  # consumed before, and so left alone
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
    """Reads files in batches of bounded size. `-`, a pipe too, is read to its end before its first record.

    A record's topic is its file's digest, its offset the line: what was consumed before, under whatever name, is
    recognised, and an interrupted `run` goes on where it stopped when it is run again.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        clock: Clock,
        mapping: str | None = None,
        progress: Progress = lambda _done, _total: None,
        stdin: IO[bytes] | None = None,
    ) -> None:
        self._paths = tuple(paths)
        self._clock = clock
        self._mapping = mapping
        self._progress = progress
        self._stdin = stdin

    async def run(self, admit: Admit) -> FileReport:
        """Admit every record of every file.

        Raises InputError where a file is missing (then nothing was read) or is too large a document, and whatever
        `admit` raises; what was admitted until then stays.
        """
        total = sum(_size(path) for path in self._paths)
        done = 0
        report = FileReport()
        for path in self._paths:
            batches = self._batches(path)
            # Off the loop: a slow disk or pipe must not hold up whoever else runs here.
            while batch := await asyncio.to_thread(next, batches, None):
                if batch.records:
                    report = report.with_batch(batch.records, await admit(batch.records))
                done += batch.size_bytes
                self._progress(done, max(done, total))
        return report

    def _batches(self, path: Path) -> Iterator[_Batch]:
        with self._opened(path) as stream:
            content = _Content.of(stream, str(path))
            log.debug("file.reading", file=content.name, size_bytes=content.size_bytes, digest=content.digest)
            batch = _Batch()
            for line, value, size_bytes in content.values():
                if value:
                    batch.records.append(self._record(content.digest, line, value))
                batch.size_bytes += size_bytes
                if len(batch.records) >= BATCH_RECORDS or batch.size_bytes >= BATCH_BYTES:
                    yield batch
                    batch = _Batch()
            yield batch

    def _record(self, digest: str, line: int, value: bytes) -> Record:
        return Record(
            source="file",
            topic=digest,
            offset=line,
            value=value,
            mapping=self._mapping,
            received_at=self._clock.now(),
        )

    @contextmanager
    def _opened(self, path: Path) -> Iterator[IO[bytes]]:
        if path == STDIN:
            with _spooled(self._stdin or sys.stdin.buffer) as stream:
                yield stream
            return
        with path.open("rb") as stream:
            if stat.S_ISREG(path.stat().st_mode):
                yield stream
                return
            with _spooled(stream) as spool:
                yield spool


@dataclass
class _Batch:
    records: list[Record] = field(default_factory=list)
    size_bytes: int = 0


@dataclass(frozen=True)
class _Content:
    """A file as it was when its digest was taken; what is appended later belongs to another digest."""

    stream: IO[bytes]
    name: str
    digest: str
    size_bytes: int

    @classmethod
    def of(cls, stream: IO[bytes], name: str) -> _Content:
        sha256 = hashlib.sha256()
        stream.seek(0)
        while chunk := stream.read(1 << 20):
            sha256.update(chunk)
        return cls(stream, name, sha256.hexdigest()[:32], stream.tell())

    def values(self) -> Iterator[tuple[int, bytes, int]]:
        """Line, value (empty for a blank line) and how many bytes of the file it took."""
        self.stream.seek(0)
        head = self.stream.read(min(self.size_bytes, MAX_BYTES + 1))
        self.stream.seek(0)
        whole = self.size_bytes <= MAX_BYTES
        if not _is_one_document(head, whole=whole):
            yield from self._lines()
        elif whole:
            yield 1, head.strip(), self.size_bytes
        else:
            raise InputError(
                f"one JSON document of {self.size_bytes} bytes; a record has at most {MAX_BYTES}. "
                "Put one alert on each line, as `jq -c '.[]'` does for an array",
                Place(self.name),
            )

    def _lines(self) -> Iterator[tuple[int, bytes, int]]:
        left, line = self.size_bytes, 0
        while value := self.stream.readline(min(left, MAX_LINE_BYTES)):
            size_bytes = len(value)
            rest = value
            while not rest.endswith(b"\n") and (rest := self.stream.readline(min(left - size_bytes, 1 << 20))):
                size_bytes += len(rest)
            left -= size_bytes
            line += 1
            yield line, value.strip(), size_bytes


def _size(path: Path) -> int:
    """Bytes of a file, 0 where that is known only at its end; raises InputError where it cannot be read."""
    if path == STDIN:
        return 0
    try:
        status = path.stat()
    except OSError as failure:
        raise InputError(f"cannot be read: {failure.strerror}", Place(str(path))) from failure
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"is a folder; name the files in it, such as {path}/*.json", Place(str(path)))
    if not os.access(path, os.R_OK):
        raise InputError("cannot be read: this account may not", Place(str(path)))
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


@contextmanager
def _spooled(stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """A stream that can be read twice, as the digest comes before the first record."""
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
        shutil.copyfileobj(stream, spool)
        yield spool


def _is_one_document(head: bytes, *, whole: bool) -> bool:
    """Whether a file holds one JSON document over several lines, rather than a record per line."""
    text = head.removeprefix(codecs.BOM_UTF8).strip()
    lines = text.split(b"\n")
    if text[:1] not in (b"{", b"[") or len(lines) == 1 or _reads(lines[0], dict, list):
        return False
    if whole and (text.startswith(b"[") or _reads(text, dict)):
        return True
    return not any(_reads(line, dict) for line in lines)


def _reads(text: bytes, *kinds: type) -> bool:
    try:
        return isinstance(parse(text), kinds)
    except RecordError:
        return False
