"""The nodes that a store keeps are those of the tree, whenever they are kept, and proofs are made from them alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping

import pytest

from soar.errors import JournalError
from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.merkle import Nodes, consistency_proof, inclusion_proof, leaf_hash, root_of, verify_consistency
from soar.journal.nodes import keep_nodes, read_tile
from soar.journal.proof import prove_entry, read_nodes
from soar.journal.tiles import Tile

from .logs import LOG, ORIGIN

SIZE = 66_000
LEAVES = [b"%d" % number for number in range(SIZE)]
HASHES = [leaf_hash(each) for each in LEAVES]


class Kept:
    """A store in SQLite, by the statements that a store of the product needs; counts what it reads."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:")
        self.db.execute("CREATE TABLE entries (idx INTEGER PRIMARY KEY, leaf_hash BLOB NOT NULL)")
        self.db.execute(
            "CREATE TABLE subtrees (level INTEGER, idx INTEGER, hash BLOB NOT NULL, PRIMARY KEY (level, idx))"
            " WITHOUT ROWID"
        )
        self.reads = 0

    def append(self, first: int, end: int) -> None:
        self.db.executemany("INSERT INTO entries VALUES (?, ?)", enumerate(HASHES[first:end], start=first))

    async def hashes(self, level: int, start: int, count: int) -> list[bytes]:
        self.reads += count
        leaves = "SELECT leaf_hash FROM entries WHERE idx >= :start ORDER BY idx LIMIT :count"
        nodes = "SELECT hash FROM subtrees WHERE level = :level AND idx >= :start ORDER BY idx LIMIT :count"
        rows = self.db.execute(nodes if level else leaves, {"level": level, "start": start, "count": count})
        return [row[0] for row in rows]

    async def add_hashes(self, nodes: Mapping[tuple[int, int], bytes]) -> None:
        self.db.executemany(
            "INSERT OR IGNORE INTO subtrees VALUES (?, ?, ?)", [(*place, each) for place, each in nodes.items()]
        )


@pytest.mark.parametrize("steps", [(SIZE,), (255, 256, 257), (100, 700, 65_535, 65_536, SIZE), (65_536, SIZE)])
async def test_whatever_the_steps_the_nodes_are_the_same(steps: tuple[int, ...]) -> None:
    kept, before, new = Kept(), 0, 0
    for size in steps:
        kept.append(before, size)
        new += await keep_nodes(kept, size)
        assert await keep_nodes(kept, size) == 0
        before = size
    full = [(level, index, width) for level, width in ((1, 256), (2, 65_536)) for index in range(before // width)]
    expected = [(level, index, root_of(HASHES[index * width : (index + 1) * width])) for level, index, width in full]
    assert kept.db.execute("SELECT level, idx, hash FROM subtrees ORDER BY level, idx").fetchall() == expected
    assert new == len(expected)


@pytest.fixture(scope="module")
def store() -> Kept:
    kept = Kept()
    kept.append(0, SIZE)
    asyncio.run(keep_nodes(kept, SIZE))
    return kept


@pytest.mark.parametrize("size", [1, 256, 257, 65_536, 65_537, SIZE])
@pytest.mark.parametrize("end", [0, 0.5, 1])
async def test_entries_are_proven_from_what_is_kept(store: Kept, size: int, end: float) -> None:
    """Also under a checkpoint from before, by a few hundred hashes."""
    index = int((size - 1) * end)
    note = sign_checkpoint(Checkpoint(ORIGIN, size, root_of(HASHES[:size])), LOG)

    def make(nodes: Nodes) -> list[bytes]:
        return inclusion_proof(index, size, nodes)

    async def read(tile: Tile) -> bytes:
        return await read_tile(store, tile)

    store.reads = 0
    nodes = await read_nodes(size, make, read)
    assert store.reads <= 5 * 256
    assert prove_entry(index, LEAVES[index], note=note, nodes=nodes).index == index


async def test_growth_is_proven_from_what_is_kept(store: Kept) -> None:
    def make(nodes: Nodes) -> list[bytes]:
        return consistency_proof(1000, SIZE, nodes)

    async def read(tile: Tile) -> bytes:
        return await read_tile(store, tile)

    proof = make(await read_nodes(SIZE, make, read))
    old, new = root_of(HASHES[:1000]), root_of(HASHES)
    verify_consistency(old_size=1000, new_size=SIZE, old_root=old, new_root=new, proof=proof)


async def test_what_is_not_kept_is_said() -> None:
    kept = Kept()
    kept.append(0, 300)
    with pytest.raises(JournalError, match=r"keeps 0 of the 1 nodes of tile/1/000\.p/1"):
        await read_tile(kept, Tile(1, 0, 1))
    kept.db.execute("INSERT INTO subtrees VALUES (1, 0, x'00')")
    with pytest.raises(JournalError, match=r"tile/1/000\.p/1 is 32 bytes, not 1"):
        await read_tile(kept, Tile(1, 0, 1))
