"""Payloads that grew old, outside the store: files that say what they hold, and entries that say what the files are.

    SHA256SUMS                                  what `sha256sum --check` reads
    payloads-<first>-<last>-<digest>.jsonl.gz   one line a payload, in tree order: index, id, salt (hex), payload

An entry of type `payload.archived` names a file with its digest and the indexes between which its payloads lie. Erasing
from a file writes another in its place: the entry that tells of that one names the one that it `replaces`. A file that
no entry names holds nothing that counts: a crash left it before its entry was committed, or after it was replaced.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from soar.errors import JournalError, StoreUnavailableError
from soar.journal.durable import replace_file
from soar.journal.leaf import parse_leaf
from soar.journal.verify import StoredEntry

PAYLOAD_ARCHIVED = "payload.archived"
"""The type of the entry that says that payloads left the store for a file."""

_SUMS = "SHA256SUMS"
_FILE = re.compile(r"payloads-\d+-\d+-[0-9a-f]{16}\.jsonl\.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One payload as the archive keeps it."""

    index: int
    id: str
    salt: bytes
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFile:
    """One file, as the journal tells of it."""

    name: str
    sha256: str
    first: int
    last: int
    payloads: int

    @property
    def data(self) -> dict[str, str | int | bool]:
        """The public part of the entry that tells of it."""
        return {"sha256": self.sha256, "first": self.first, "last": self.last, "payloads": self.payloads}


def archived_files(leaves: Iterable[bytes]) -> list[ArchiveFile]:
    """The files that count, from the entries that tell of them; what cannot be read is for the verification to say."""
    files: dict[str, ArchiveFile] = {}
    for leaf in leaves:
        with contextlib.suppress(JournalError, KeyError, TypeError):
            fields = parse_leaf(leaf)
            data = fields["data"]
            numbers = {name: int(data[name]) for name in ("first", "last", "payloads")}
            files.pop(str(data.get("replaces", "")), None)
            if numbers["payloads"]:
                name = str(fields["subject"])
                files[name] = ArchiveFile(name=name, sha256=str(data["sha256"]), **numbers)
    return sorted(files.values(), key=lambda file: (file.first, file.last))


class ArchiveFolder:
    """The folder, and which files in it the journal knows."""

    def __init__(self, path: Path, files: Sequence[ArchiveFile] = ()) -> None:
        self.path = path
        self.files = tuple(files)

    def knowing(self, leaves: Iterable[bytes]) -> ArchiveFolder:
        """The same folder with the files of which these leaves tell."""
        return ArchiveFolder(self.path, archived_files(leaves))

    def reading(self) -> Reading:
        """One pass over it, in tree order."""
        return Reading(self)

    def put(self, kept: Sequence[Kept]) -> ArchiveFile:
        """Write a file with these payloads; it survives a power failure, and counts once an entry tells of it.

        Raises JournalError for a payload that is no text, StoreUnavailableError where the folder cannot be written.
        """
        content = gzip.compress(b"".join(map(_line, kept)), mtime=0)
        digest = hashlib.sha256(content).hexdigest()
        first, last = kept[0].index, kept[-1].index
        name = f"payloads-{first}-{last}-{digest[:16]}.jsonl.gz"
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self.path / name, content, mode=0o600)
        except OSError as failure:
            raise StoreUnavailableError(f"the archive {self.path} cannot be written: {failure}") from failure
        return ArchiveFile(name=name, sha256=digest, first=first, last=last, payloads=len(kept))

    def holds(self, file: ArchiveFile) -> bool:
        """Whether the file is here at all."""
        return bool(_FILE.fullmatch(file.name)) and (self.path / file.name).is_file()

    def read(self, file: ArchiveFile) -> list[Kept]:
        """What a file holds; raises JournalError where it is not the file that the journal names."""
        try:
            content = (self.path / file.name).read_bytes()
        except OSError as failure:
            raise JournalError(f"archive file {file.name} cannot be read: {failure}") from failure
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise JournalError(f"archive file {file.name} is not the one that the journal names: its digest differs")
        try:
            return [_kept(json.loads(line)) for line in gzip.decompress(content).decode().splitlines()]
        except (ValueError, KeyError, TypeError, EOFError, OSError) as failure:
            raise JournalError(f"archive file {file.name} cannot be read: {failure}") from failure

    def without(self, tells: Callable[[bytes], bool]) -> Iterator[tuple[ArchiveFile, list[Kept], list[Kept]]]:
        """Each file that tells of somebody: what it holds that does, and what does not.

        Raises JournalError for a file that is not here or not what it should be: what it tells cannot be known.
        """
        for file in self.files:
            kept = self.read(file)
            taken = [each for each in kept if tells(each.payload)]
            if taken:
                yield file, taken, [each for each in kept if not tells(each.payload)]

    def sweep(self) -> int:
        """Remove the files that do not count, and write the sums of those that do; returns how many were removed."""
        names = {file.name for file in self.files}
        gone = [path for path in self.path.glob("*.jsonl.gz") if _FILE.fullmatch(path.name) and path.name not in names]
        try:
            for path in gone:
                path.unlink(missing_ok=True)
            if self.path.is_dir():
                sums = "".join(f"{file.sha256}  {file.name}\n" for file in self.files if self.holds(file))
                replace_file(self.path / _SUMS, sums.encode(), mode=0o600)
        except OSError as failure:
            raise StoreUnavailableError(f"the archive {self.path} cannot be written: {failure}") from failure
        return len(gone)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder against other processes of this machine; raises StoreUnavailableError where one has it."""
        import fcntl  # noqa: PLC0415 - not on every system, and only who archives needs it

        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as failure:
            raise StoreUnavailableError(f"the archive {self.path} cannot be written: {failure}") from failure
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as failure:
            raise StoreUnavailableError(f"the archive {self.path} is being written by another process") from failure
        finally:
            os.close(held)


class Reading:
    """Gives entries their payloads back, one pass in either order; holds a few files at a time."""

    def __init__(self, folder: ArchiveFolder) -> None:
        self.filled = 0
        self.away = 0
        self.problems: list[str] = []
        self._folder = folder
        self._edges = sorted({edge for file in folder.files for edge in (file.first, file.last + 1)})
        self._part, self._covering = -1, list[ArchiveFile]()  # between which edges we are, and the files over that
        self._open: dict[str, dict[int, Kept] | None] = {}  # None: not here, or not what it should be

    def fill(self, entry: StoredEntry) -> StoredEntry:
        """The entry with its payload, where a file holds it; of one whose file is not here nothing is claimed."""
        if entry.salt is not None or entry.payload is not None or entry.payload_erased or not self._folder.files:
            return entry
        self._move_to(entry.index)
        away = False
        for file in self._covering:
            held = self._held(file)
            if held is None:
                away = True
            elif entry.index in held:
                kept = held[entry.index]
                self.filled += 1
                return replace(entry, salt=kept.salt, payload=kept.payload)
        if away and b'"payload":"' in entry.leaf:
            self.away += 1
            return replace(entry, payload_erased=True)
        return entry

    def _move_to(self, index: int) -> None:
        part = bisect_right(self._edges, index)
        if part != self._part:
            self._part = part
            self._covering = [file for file in self._folder.files if file.first <= index <= file.last]
            for name in self._open.keys() - {file.name for file in self._covering}:
                del self._open[name]

    def _held(self, file: ArchiveFile) -> dict[int, Kept] | None:
        if file.name not in self._open:
            self._open[file.name] = None
            if self._folder.holds(file):
                try:
                    self._open[file.name] = {each.index: each for each in self._folder.read(file)}
                except JournalError as failure:
                    self.problems.append(str(failure))
        return self._open[file.name]


def _line(kept: Kept) -> bytes:
    try:
        told = {"index": kept.index, "id": kept.id, "salt": kept.salt.hex(), "payload": kept.payload.decode()}
    except UnicodeDecodeError as failure:
        raise JournalError(f"the payload of entry {kept.index} is not text: {failure}", kept.index) from failure
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _kept(line: dict[str, Any]) -> Kept:
    return Kept(
        index=int(line["index"]),
        id=str(line["id"]),
        salt=bytes.fromhex(line["salt"]),
        payload=line["payload"].encode(),
    )
