"""Tiles: the paths and bytes that other logs publish, and proofs made from nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soar.errors import JournalError
from soar.journal.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    nodes_of,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from soar.journal.tiles import (
    TILE_WIDTH,
    Tile,
    bundle_bytes,
    bundle_entries,
    new_tiles,
    nodes_in_tiles,
    tile_bytes,
    tile_hashes,
    tile_number,
)

TESSERA_ENTRIES = b"one two three four five six seven eit nain ten ileven twelf threeten fourten fivten".split()


@pytest.mark.parametrize(
    ("index", "number"),
    [
        (0, "000"),
        (67, "067"),
        (999, "999"),
        (1000, "x001/000"),
        (1234067, "x001/x234/067"),
        (10**9, "x001/x000/x000/000"),
    ],
)
def test_tile_numbers(index: int, number: str) -> None:
    assert tile_number(index) == number


def test_tile_paths() -> None:
    assert Tile(0, 1234067).path == "tile/0/x001/x234/067"
    assert Tile(2, 5, 17).path == "tile/2/005.p/17"
    assert Tile(0, 5, 17).bundle_path == "tile/entries/005.p/17"
    with pytest.raises(JournalError, match="level 0, not 1"):
        assert Tile(1, 0).bundle_path


@pytest.mark.parametrize("tile", [(-1, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)])
def test_there_is_no_such_tile(tile: tuple[int, int, int]) -> None:
    with pytest.raises(JournalError, match="no tile has"):
        Tile(*tile)


def tiles_of(size: int) -> set[Tile]:
    """All tiles of a tree, as the specification describes them."""
    found, level = set(), 0
    while size:
        found |= {Tile(level, index) for index in range(size // TILE_WIDTH)}
        if size % TILE_WIDTH:
            found.add(Tile(level, size // TILE_WIDTH, size % TILE_WIDTH))
        size, level = size // TILE_WIDTH, level + 1
    return found


@given(sizes=st.tuples(st.integers(0, 200_000), st.integers(0, 200_000)))
def test_new_tiles_are_those_that_the_smaller_tree_has_not(sizes: tuple[int, int]) -> None:
    old_size, new_size = sorted(sizes)
    found = list(new_tiles(old_size, new_size))
    assert len(found) == len(set(found))
    assert set(found) == tiles_of(new_size) - tiles_of(old_size)


def test_proofs_come_from_tiles_alone() -> None:
    leaves = [leaf_hash(str(number).encode()) for number in range(70_000)]
    nodes = nodes_of(leaves)
    files: dict[Tile, bytes] = {}
    for old_size, size in ((0, 300), (300, 66_000), (66_000, 70_000)):
        files.update((tile, tile_bytes(tile, nodes)) for tile in new_tiles(old_size, size))
        tiled = nodes_in_tiles(size, files.__getitem__)
        root = root_of(leaves[:size])
        for index in (0, 255, 256, size // 2, size - 1):
            proof = inclusion_proof(index, size, tiled)
            verify_inclusion(index=index, size=size, leaf=leaves[index], root=root, proof=proof)
        old_root = root_of(leaves[:257])
        proof = consistency_proof(257, size, tiled)
        verify_consistency(old_size=257, new_size=size, old_root=old_root, new_root=root, proof=proof)


def test_a_tile_of_any_other_length_is_refused() -> None:
    tile = Tile(0, 0, 2)
    assert tile_hashes(tile, bytes(64)) == [bytes(32), bytes(32)]
    for length in (0, 32, 63, 65, 96):
        with pytest.raises(JournalError, match=f"tile/0/000.p/2 is 64 bytes, not {length}"):
            tile_hashes(tile, bytes(length))


@given(entries=st.lists(st.binary(max_size=300), max_size=10), cut=st.integers(1, 400))
def test_a_bundle_gives_its_entries_back_whole_or_not_at_all(entries: list[bytes], cut: int) -> None:
    raw = bundle_bytes(entries)
    assert bundle_entries(raw) == entries
    if cut < len(raw) and (whole := [n for n in range(len(entries)) if bundle_bytes(entries[:n]) == raw[:-cut]]):
        assert bundle_entries(raw[:-cut]) == entries[: whole[0]]
    elif cut < len(raw):
        with pytest.raises(JournalError, match="ends inside its entry"):
            bundle_entries(raw[:-cut])


def test_an_entry_larger_than_its_length_can_say_is_refused() -> None:
    assert bundle_entries(bundle_bytes([b"x" * 65_535])) == [b"x" * 65_535]
    with pytest.raises(JournalError, match="65536 bytes"):
        bundle_bytes([b"x" * 65_536])


def test_tiles_and_bundles_of_a_published_log(shared_data: Path) -> None:
    """Every file of the log at every size, byte for byte (transparency-dev/tessera)."""
    folder = shared_data / "vectors/tessera-log/log"
    nodes = nodes_of([leaf_hash(entry) for entry in TESSERA_ENTRIES])
    for size in range(1, 16):
        (tile,) = new_tiles(size - 1, size)
        assert (folder / tile.path).read_bytes() == tile_bytes(tile, nodes)
        bundle = (folder / tile.bundle_path).read_bytes()
        assert bundle == bundle_bytes(TESSERA_ENTRIES[:size])
        assert bundle_entries(bundle) == TESSERA_ENTRIES[:size]
