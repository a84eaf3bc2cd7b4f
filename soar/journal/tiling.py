"""Cutting a growing log into tiles, with no more of it in memory than its right edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Self

from soar.journal.merkle import Frontier, root_of
from soar.journal.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, tile_hashes


class Tiling:
    """The right edge of a log, level by level: the hashes that no full tile holds yet.

    That is at most 255 hashes a level. `size` counts the leaves.
    """

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[list[bytes]] = [[]]

    @classmethod
    def resume(cls, size: int, read: Callable[[Tile], bytes]) -> Self:
        """The edge of a log of `size` leaves from its partial tiles; raises JournalError where one is not whole."""
        tiling = cls()
        tiling.size = size
        tiling._edge = []
        while size:
            index, width = divmod(size, TILE_WIDTH)
            level = len(tiling._edge)
            tiling._edge.append(tile_hashes(tile := Tile(level, index, width), read(tile)) if width else [])
            size >>= TILE_HEIGHT
        tiling._edge = tiling._edge or [[]]
        return tiling

    def extend(self, leaf_hashes: Iterable[bytes]) -> Iterator[tuple[Tile, bytes]]:
        """Take in leaf hashes, in order; yields each tile that they fill, with its bytes."""
        for each in leaf_hashes:
            self._edge[0].append(each)
            self.size += 1
            level = 0
            while len(full := self._edge[level]) == TILE_WIDTH:
                yield Tile(level, (self.size >> level * TILE_HEIGHT) // TILE_WIDTH - 1), b"".join(full)
                self._edge[level] = []
                level += 1
                if level == len(self._edge):
                    self._edge.append([])
                self._edge[level].append(root_of(full))

    def partial(self) -> Iterator[tuple[Tile, bytes]]:
        """The tiles that are not full yet, with their bytes: at most one a level."""
        for level, hashes in enumerate(self._edge):
            if hashes:
                yield Tile(level, (self.size >> level * TILE_HEIGHT) // TILE_WIDTH, len(hashes)), b"".join(hashes)

    def root(self) -> bytes:
        """The root of the tree as it stands."""
        # Each level's hashes make complete subtrees, largest first; from the highest level down, they are the frontier.
        parts = [part for hashes in reversed(self._edge) for part in Frontier().extend(hashes).hashes]
        return Frontier(self.size, tuple(parts)).root()
