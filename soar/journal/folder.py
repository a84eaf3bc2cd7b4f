"""Reading an export, and verifying it with nothing but the folder and a trust policy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from soar.errors import JournalError
from soar.journal.checkpoint import open_checkpoint
from soar.journal.merkle import leaf_hash
from soar.journal.tiles import TILE_WIDTH, Tile, bundle_entries, tile_hashes, tile_number
from soar.journal.tiling import Tiling
from soar.journal.trust import Trusted, TrustPolicy
from soar.journal.verify import PROBLEMS_MAX, LogCheck, Problem, Report, StoredEntry


class ExportFolder:
    """The files of an export. What cannot be read raises JournalError naming the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """Whether an export was ever finished here."""
        return (self.path / "checkpoint").exists()

    def checkpoint(self) -> str:
        """The signed checkpoint."""
        return self._text("checkpoint")

    def policy(self) -> TrustPolicy:
        """The keys as the log itself tells them: to be compared, not to be believed."""
        return TrustPolicy.from_text(self._text("policy"))

    def tile(self, tile: Tile) -> bytes:
        """The hashes of a tile, end to end."""
        return self._bytes(tile.path)

    def bundle(self, tile: Tile) -> list[bytes]:
        """The leaves under a tile of level 0."""
        leaves = bundle_entries(self._bytes(tile.bundle_path))
        if len(leaves) != tile.width:
            raise JournalError(f"{self.path / tile.bundle_path} holds {len(leaves)} entries, not {tile.width}")
        return leaves

    def entries(self, size: int) -> Iterator[StoredEntry]:
        """The first `size` entries with those payloads that are there; the others count as erased."""
        for first in range(0, size, TILE_WIDTH):
            tile = Tile(0, first // TILE_WIDTH, min(TILE_WIDTH, size - first))
            rows = zip(self.bundle(tile), self._hashes(tile), strict=True)
            for index, (leaf, hashed) in enumerate(rows, start=first):
                if index % 1000 == 0 or index == first:
                    there = self._payloads_beside(index)
                salt, payload = self._payload(index) if f"{index % 1000:03}.json" in there else (None, None)
                absent = payload is None and _promises(leaf)
                yield StoredEntry(
                    index=index, leaf=leaf, leaf_hash=hashed, salt=salt, payload=payload, payload_erased=absent
                )

    def payload_name(self, index: int) -> str:
        """Where the payload of an entry stands, if it is there."""
        return f"payloads/{tile_number(index)}.json"

    def payload_files(self) -> int:
        """How many files there are with payloads."""
        return sum(1 for _ in (self.path / "payloads").rglob("*.json"))

    def _hashes(self, tile: Tile) -> Sequence[bytes | None]:
        """The leaf hashes that a tile tells; of one that is not whole, nothing."""
        try:
            return tile_hashes(tile, self.tile(tile))
        except JournalError:
            return [None] * tile.width

    def _payloads_beside(self, index: int) -> frozenset[str]:
        """The names of the files in the folder that the payload of this entry would stand in."""
        try:
            return frozenset(each.name for each in (self.path / self.payload_name(index)).parent.iterdir())
        except FileNotFoundError:
            return frozenset()

    def _payload(self, index: int) -> tuple[bytes, bytes]:
        path, raw = self.path / self.payload_name(index), self._bytes(self.payload_name(index))
        try:
            told = json.loads(raw)
            salt, payload = bytes.fromhex(told["salt"]), told["payload"].encode()
            again = {"index": index, "salt": salt.hex(), "payload": told["payload"]}
            if json.dumps(again, ensure_ascii=False).encode() != raw:
                raise JournalError(f"{path} is not spelled as it was written", index)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise JournalError(f"{path} holds no payload and salt: {error}", index) from error
        return salt, payload

    def _text(self, name: str) -> str:
        try:
            return self._bytes(name).decode()
        except UnicodeDecodeError as error:
            raise JournalError(f"{self.path / name} is not UTF-8 text: {error}") from error

    def _bytes(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise JournalError(f"{self.path / name} cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Opened:
    """What verifying an export found. `trusted` is None where the checkpoint is not good under the policy.

    In `report`, `erased` counts the payloads that the export does not have.
    """

    report: Report
    trusted: Trusted | None

    @property
    def ok(self) -> bool:
        """Whether all of it verifies."""
        return self.trusted is not None and self.report.ok


def open_export(path: Path, *, policy: TrustPolicy, earlier: Iterable[str] = ()) -> Opened:
    """Verify an export, streaming; finds everything, and raises nothing of its own.

    Checked: signatures and witnesses, every entry, run and payload, every tile of the tree, and that the log begins
    with what the checkpoints `earlier`, kept from before, speak of.
    """
    folder, findings = ExportFolder(path), list[Problem]()
    try:
        trusted = policy.open(note := folder.checkpoint())
    except JournalError as error:
        return Opened(_with(LogCheck((), origin="", verifiers=()).finish(), [Problem(None, str(error))]), None)
    checkpoint = trusted.checkpoint
    notes = sorted([note, *earlier], key=lambda each: _size(each, policy))
    check, tiling = LogCheck(notes, origin=None, verifiers=policy.logs), Tiling()
    payloads = 0
    try:
        for entry in folder.entries(checkpoint.size):
            check.take(entry)
            payloads += entry.payload is not None
            findings += _tiles(folder, tiling.extend((leaf_hash(entry.leaf),)))
    except JournalError as error:
        findings.append(Problem(tiling.size, str(error)))
    findings += _tiles(folder, tiling.partial())
    stray = folder.payload_files() - payloads
    if stray and tiling.size == checkpoint.size:
        findings.append(Problem(None, f"{stray} files in {path / 'payloads'} belong to no entry"))
    return Opened(_with(check.finish(), findings), trusted)


def _tiles(folder: ExportFolder, tiles: Iterable[tuple[Tile, bytes]]) -> Iterator[Problem]:
    """Tiles that differ; which entry is to blame, if one is, stands in its own finding."""
    for tile, raw in tiles:
        try:
            same = folder.tile(tile) == raw
        except JournalError as error:
            yield Problem(None, str(error))
        else:
            if not same:
                yield Problem(None, f"{folder.path / tile.path} is not what the entries give")


def _size(note: str, policy: TrustPolicy) -> int:
    """For the order alone; what is no checkpoint is reported when its turn comes."""
    try:
        return open_checkpoint(note, policy.logs).size
    except JournalError:
        return 0


def _promises(leaf: bytes) -> bool:
    try:
        fields: Any = orjson.loads(leaf)
    except ValueError:
        return False
    return isinstance(fields, dict) and "payload" in fields


def _with(report: Report, findings: list[Problem]) -> Report:
    """The report with these findings among its own, lowest index first."""
    problems = sorted(
        [*report.problems, *findings], key=lambda each: float("inf") if each.index is None else each.index
    )
    count = report.problem_count + len(findings)
    return replace(report, problems=tuple(problems[:PROBLEMS_MAX]), problem_count=count)
