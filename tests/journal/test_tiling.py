"""Cutting a growing log into tiles gives the tiles that the standard names, whatever the steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soar.errors import JournalError
from soar.journal.merkle import leaf_hash, nodes_of, root_of
from soar.journal.tiles import Tile, new_tiles, tile_bytes
from soar.journal.tiling import Tiling

HASHES = [leaf_hash(b"%d" % number) for number in range(66_000)]


def tiles_of(tiling: Tiling, hashes: list[bytes]) -> dict[Tile, bytes]:
    return {**dict(tiling.extend(hashes)), **dict(tiling.partial())}


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 66_000])
def test_tiles_and_root_of_a_log(size: int) -> None:
    tiling = Tiling()
    tiles = tiles_of(tiling, HASHES[:size])
    assert tiling.size == size
    assert tiling.root() == root_of(HASHES[:size])
    assert set(tiles) == set(new_tiles(0, size))
    nodes = nodes_of(HASHES[:size])
    assert all(raw == tile_bytes(tile, nodes) for tile, raw in tiles.items())


@given(st.integers(0, 1500), st.integers(0, 1500))
def test_taking_up_a_log_is_as_if_it_had_never_been_put_down(old: int, more: int) -> None:
    tiles = tiles_of(Tiling(), HASHES[:old])
    tiling = Tiling.resume(old, tiles.__getitem__)
    assert tiling.root() == root_of(HASHES[:old])
    assert set(tiles_of(tiling, HASHES[old : old + more])) >= set(new_tiles(old, old + more))
    assert tiling.root() == root_of(HASHES[: old + more])


@pytest.mark.parametrize("size", [65_536, 65_537, 66_000])
def test_taking_up_a_log_of_three_levels(size: int) -> None:
    tiles = tiles_of(Tiling(), HASHES[:size])
    assert Tiling.resume(size, tiles.__getitem__).root() == root_of(HASHES[:size])


def test_a_tile_that_is_not_whole_is_refused() -> None:
    with pytest.raises(JournalError, match=r"tile/0/000\.p/5 is 160 bytes, not 32"):
        Tiling.resume(5, lambda _tile: bytes(32))
