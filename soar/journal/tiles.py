"""Tiles and entry bundles (c2sp.org/tlog-tiles): the log cut into files that never change once they are full.

A tile holds up to 256 neighbouring hashes of one level; tile level L holds the tree's level 8 * L. An entry bundle
holds the leaves under one tile of level 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from soar.errors import JournalError
from soar.journal.leaf import LEAF_BYTES_MAX
from soar.journal.merkle import HASH_BYTES, Nodes, root_of

TILE_WIDTH = 256
TILE_HEIGHT = 8  # levels of the tree in one tile: 2**8 hashes
_LENGTH_BYTES = 2


@dataclass(frozen=True, slots=True)
class Tile:
    """Which tile: `width` is how many hashes it holds, 256 once it is full."""

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        if self.level < 0 or self.index < 0 or not 1 <= self.width <= TILE_WIDTH:
            raise JournalError(f"no tile has level {self.level}, index {self.index} and width {self.width}")

    @property
    def path(self) -> str:
        """Where its hashes stand: `tile/<level>/<index>`, with `.p/<width>` until it is full."""
        return f"tile/{self.level}/{self._place}"

    @property
    def bundle_path(self) -> str:
        """Where the entries under a tile of level 0 stand: `tile/entries/<index>`."""
        if self.level:
            raise JournalError(f"entries stand under tiles of level 0, not {self.level}")
        return f"tile/entries/{self._place}"

    @property
    def _place(self) -> str:
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"{tile_number(self.index)}{partial}"


def tile_number(index: int) -> str:
    """Groups of three digits, all but the last marked: 1234067 is `x001/x234/067`."""
    path = f"{index % 1000:03}"
    while index := index // 1000:
        path = f"x{index % 1000:03}/{path}"
    return path


def new_tiles(old_size: int, new_size: int) -> Iterator[Tile]:
    """The tiles of a tree of `new_size` that one of `old_size` does not have, lowest level first.

    Full ones are final. At most one of each level, its last, is partial.
    """
    level = 0
    while new_size:
        for index in range(old_size // TILE_WIDTH, -(-new_size // TILE_WIDTH)):
            width = min(TILE_WIDTH, new_size - index * TILE_WIDTH)
            if index * TILE_WIDTH + width > old_size:
                yield Tile(level, index, width)
        level, old_size, new_size = level + 1, old_size >> TILE_HEIGHT, new_size >> TILE_HEIGHT


def tile_bytes(tile: Tile, nodes: Nodes) -> bytes:
    """The hashes of a tile, end to end."""
    first = tile.index * TILE_WIDTH
    return b"".join(nodes(tile.level * TILE_HEIGHT, position) for position in range(first, first + tile.width))


def tile_hashes(tile: Tile, raw: bytes) -> list[bytes]:
    """The inverse of `tile_bytes`; raises JournalError for any other number of bytes."""
    if len(raw) != tile.width * HASH_BYTES:
        raise JournalError(f"{tile.path} is {tile.width * HASH_BYTES} bytes, not {len(raw)}")
    return [raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)]


def nodes_in_tiles(size: int, read: Callable[[Tile], bytes]) -> Nodes:
    """The nodes of the tree of `size` entries, read from its tiles: what proofs are made of."""

    def node(level: int, index: int) -> bytes:
        tile_level, above = divmod(level, TILE_HEIGHT)
        first, count = index << above, 1 << above
        at = first // TILE_WIDTH
        tile = Tile(tile_level, at, min(TILE_WIDTH, (size >> tile_level * TILE_HEIGHT) - at * TILE_WIDTH))
        hashes = tile_hashes(tile, read(tile))
        return root_of(hashes[first % TILE_WIDTH : first % TILE_WIDTH + count])

    return node


def bundle_bytes(entries: Iterable[bytes]) -> bytes:
    """Entries end to end, each after its length as 2 bytes, big endian."""
    parts = []
    for entry in entries:
        if len(entry) > LEAF_BYTES_MAX:
            raise JournalError(f"an entry of {len(entry)} bytes does not fit a bundle, which takes {LEAF_BYTES_MAX}")
        parts += [len(entry).to_bytes(_LENGTH_BYTES, "big"), entry]
    return b"".join(parts)


def bundle_entries(raw: bytes) -> list[bytes]:
    """The inverse of `bundle_bytes`; raises JournalError where the bytes end inside an entry."""
    entries: list[bytes] = []
    at = 0
    while at < len(raw):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(raw[at:start], "big")
        if at > len(raw):
            raise JournalError(f"the bundle ends inside its entry {len(entries)}")
        entries.append(raw[start:at])
    return entries
