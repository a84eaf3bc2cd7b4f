"""Writing an export: the log as a folder that anybody can verify (c2sp.org/tlog-tiles).

    checkpoint              what the log commits to, signed; written last
    policy                  the keys of log and witnesses, as the log tells them (c2sp.org/tlog-policy)
    verify.py               a verifier that needs nothing else of ours
    tile/<level>/<number>   256 hashes each, `.p/<width>` at the right edge
    tile/entries/<number>   the leaves under each tile of level 0
    payloads/<index>.json   those payloads that were asked for, each with its salt

Numbers are cut into groups of three digits: `x001/x234/067`. Nothing that was written is ever changed but `checkpoint`
and `policy`: whoever wants more appends. A crash leaves files that the checkpoint does not speak of; exporting again
writes the same ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from soar.errors import JournalError
from soar.journal.checkpoint import Checkpoint
from soar.journal.durable import replace_file
from soar.journal.folder import ExportFolder
from soar.journal.merkle import leaf_hash
from soar.journal.tiles import TILE_WIDTH, Tile, bundle_bytes
from soar.journal.tiling import Tiling
from soar.journal.trust import TrustPolicy
from soar.journal.verify import StoredEntry

STANDALONE = Path(__file__).with_name("standalone.py")


class Export:
    """An export being written. `size` is the index of the next entry that it wants.

    Memory holds the right edge of the log: 255 entries and 255 hashes a level. Give it entries from `size` on, then
    `finish` with a checkpoint over exactly those.
    """

    def __init__(self, path: Path, *, policy: TrustPolicy) -> None:
        """Begin, or take up an export that is there; raises JournalError where that is not of a log of this policy."""
        self._folder = ExportFolder(path)
        self._policy = policy
        self._tiling = Tiling()
        self._bundle: list[bytes] = []
        if self._folder.exists():
            self._take_up()

    @property
    def size(self) -> int:
        """How many entries are in, and the index of the next."""
        return self._tiling.size

    def take(self, entry: StoredEntry, *, payload: bool = False) -> None:
        """Add the next entry; with its payload too, where it is asked for and there is one."""
        if entry.index != self.size:
            raise JournalError(f"the export needs entry {self.size} next, not {entry.index}", self.size)
        self._bundle.append(entry.leaf)
        for tile, raw in self._tiling.extend((leaf_hash(entry.leaf),)):
            self._write(tile.path, raw)
        if len(self._bundle) == TILE_WIDTH:
            self._write(Tile(0, entry.index // TILE_WIDTH).bundle_path, bundle_bytes(self._bundle))
            self._bundle = []
        if payload:
            self.put_payload(entry)

    def extend(self, entries: Iterable[StoredEntry]) -> None:
        """Add these entries, without payloads."""
        for entry in entries:
            self.take(entry)

    def put_payload(self, entry: StoredEntry) -> None:
        """Put the payload of an entry into the export, also of one that was exported before; erased ones have none."""
        if entry.salt is None or entry.payload is None:
            return
        try:
            told = {"index": entry.index, "salt": entry.salt.hex(), "payload": entry.payload.decode()}
        except UnicodeDecodeError as error:
            raise JournalError(f"the payload of entry {entry.index} is not text: {error}", entry.index) from error
        self._write(self._folder.payload_name(entry.index), json.dumps(told, ensure_ascii=False).encode())

    def finish(self, note: str) -> Checkpoint:
        """Write what remains, the checkpoint last, and return it.

        Raises JournalError, and leaves an earlier export valid, where the checkpoint is not good under the policy or
        not over these entries.
        """
        checkpoint = self._policy.open(note).checkpoint
        if (checkpoint.size, checkpoint.root) != (self.size, self._tiling.root()):
            raise JournalError(
                f"the checkpoint speaks of {checkpoint.size} entries under {checkpoint.root.hex()}, but"
                f" {self.size} entries under {self._tiling.root().hex()} were given; run: soar audit verify"
            )
        for tile, raw in self._tiling.partial():
            self._write(tile.path, raw)
        if self._bundle:
            last = Tile(0, self.size // TILE_WIDTH, len(self._bundle))
            self._write(last.bundle_path, bundle_bytes(self._bundle))
        self._write("verify.py", STANDALONE.read_bytes())
        self._write("policy", self._policy.to_text().encode())
        os.sync()  # a checkpoint must not outlive the files that it speaks of
        replace_file(self._folder.path / "checkpoint", note.encode())
        return checkpoint

    def _take_up(self) -> None:
        checkpoint = self._policy.open(self._folder.checkpoint()).checkpoint
        self._tiling = Tiling.resume(checkpoint.size, self._folder.tile)
        if self._tiling.root() != checkpoint.root:
            raise JournalError(f"export {self._folder.path}: its tiles do not give the root of its checkpoint")
        number, width = divmod(checkpoint.size, TILE_WIDTH)
        if width:
            self._bundle = self._folder.bundle(tile := Tile(0, number, width))
            if b"".join(map(leaf_hash, self._bundle)) != self._folder.tile(tile):
                raise JournalError(f"export {self._folder.path}: {tile.bundle_path} is not what {tile.path} says")

    def _write(self, name: str, content: bytes) -> None:
        path = self._folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
