"""The nodes above the leaves that a store keeps, so that a proof over a million entries reads a few hundred hashes.

Kept are the roots of full subtrees over 256, 65,536, ... leaves: what tiles of level 1 and up hold. They follow from
the leaves, may be thrown away and kept anew at any time, and are not believed: a proof is checked before it is handed
out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from soar.errors import JournalError
from soar.journal.merkle import root_of
from soar.journal.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, tile_hashes


class KeepsNodes(Protocol):
    """What is asked of a store. Level 0 is the leaf hashes; node n of level l covers the leaves from n * 256**l on."""

    async def hashes(self, level: int, start: int, count: int) -> list[bytes]:
        """Up to `count` hashes of a level from `start` on; fewer where there are no more."""
        ...

    async def add_hashes(self, nodes: Mapping[tuple[int, int], bytes]) -> None:
        """Keep nodes by level and number, all or none; those that are kept already stay."""
        ...


async def keep_nodes(store: KeepsNodes, size: int) -> int:
    """Keep the nodes that a tree of `size` entries has and the store lacks; returns how many were new.

    If we crash before they are kept, the next call finds the same ones missing.
    """
    new: dict[tuple[int, int], bytes] = {}
    for index in range(await _kept(store, size >> TILE_HEIGHT), size >> TILE_HEIGHT):
        level, number = 1, index
        while True:
            below = await store.hashes(level - 1, number * TILE_WIDTH, TILE_WIDTH)
            below += [
                new[level - 1, each] for each in range(number * TILE_WIDTH + len(below), (number + 1) * TILE_WIDTH)
            ]
            new[level, number] = root_of(below)
            number, place = divmod(number, TILE_WIDTH)
            if place != TILE_WIDTH - 1:
                break
            level += 1
    if new:
        await store.add_hashes(new)
    return len(new)


async def read_tile(store: KeepsNodes, tile: Tile) -> bytes:
    """A tile from the nodes that a store keeps; raises JournalError where it lacks some."""
    found = await store.hashes(tile.level, tile.index * TILE_WIDTH, tile.width)
    if len(found) != tile.width:
        raise JournalError(f"the store keeps {len(found)} of the {tile.width} nodes of {tile.path}")
    tile_hashes(tile, raw := b"".join(found))
    return raw


async def _kept(store: KeepsNodes, most: int) -> int:
    """How many nodes of level 1 are kept, which is from 0 on without a gap: by halving, `most` being the most."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if await store.hashes(1, middle, 1):
            low = middle + 1
        else:
            high = middle
    return low
