"""The Merkle tree: equal to the RFC's own definition, to published vectors, and strict about every proof."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soar.errors import JournalError
from soar.journal.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    nodes_of,
    root_of,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(str(number).encode()) for number in range(130)]
sizes = st.integers(1, len(LEAVES))


def defined_root(leaves: Sequence[bytes]) -> bytes:
    """MTH as RFC 9162, 2.1.1 writes it, for the tests to compare with."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + defined_root(leaves[:split]) + defined_root(leaves[split:])).digest()


def flip(raw: bytes, bit: int) -> bytes:
    bit %= len(raw) * 8
    return raw[: bit // 8] + bytes([raw[bit // 8] ^ 1 << bit % 8]) + raw[bit // 8 + 1 :]


def test_the_published_hashes() -> None:
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root_of([]) == EMPTY_ROOT == hashlib.sha256(b"").digest()
    assert node_hash(b"\0" * 32, b"\1" * 32) == hashlib.sha256(b"\1" + b"\0" * 32 + b"\1" * 32).digest()


def test_the_frontier_has_the_defined_root_at_every_size() -> None:
    frontier = Frontier()
    for size, leaf in enumerate(LEAVES):
        assert (frontier.size, frontier.root()) == (size, defined_root(LEAVES[:size]))
        assert root_of(LEAVES[:size]) == frontier.root()
        assert Frontier.from_bytes(frontier.to_bytes()) == frontier
        frontier = frontier.append(leaf)


def test_appending_leaves_the_old_frontier_as_it_was() -> None:
    """A transaction that fails can be tried again with the frontier it began with."""
    before = Frontier().extend(LEAVES[:7])
    before.extend(LEAVES[7:20])
    assert before == Frontier().extend(LEAVES[:7])


@given(first=st.integers(0, 60), second=st.integers(0, 60))
def test_extending_in_parts_is_extending_at_once(first: int, second: int) -> None:
    in_parts = Frontier().extend(LEAVES[:first]).extend(LEAVES[first : first + second])
    assert in_parts == Frontier().extend(LEAVES[: first + second])


def damaged_frontiers() -> Iterator[bytes]:
    good = Frontier().extend(LEAVES[:7]).to_bytes()
    yield from (b"", good[:8], good[:-1], good + b"\0", good + b"\0" * 32, b"\2" + good[1:])
    yield good[:8] + b"\x08" + good[9:]  # a size that takes another number of hashes


@pytest.mark.parametrize("raw", list(damaged_frontiers()), ids=len)
def test_a_damaged_frontier_is_refused(raw: bytes) -> None:
    with pytest.raises(JournalError, match="frontier"):
        Frontier.from_bytes(raw)


@pytest.mark.parametrize("wrong", [b"", b"x" * 31, b"x" * 33, b"x" * 64], ids=len)
def test_a_hash_of_any_other_length_is_refused_everywhere(wrong: bytes) -> None:
    good = LEAVES[0]
    calls = [
        lambda: Frontier().append(wrong),
        lambda: Frontier(1, (wrong,)),
        lambda: node_hash(wrong, good),
        lambda: node_hash(good, wrong),
        lambda: root_of([good, wrong]),
        lambda: nodes_of([wrong]),
        lambda: verify_inclusion(index=0, size=1, leaf=wrong, root=wrong, proof=[]),
        lambda: verify_inclusion(index=0, size=2, leaf=good, root=good, proof=[wrong]),
        lambda: verify_consistency(old_size=1, new_size=1, old_root=wrong, new_root=wrong, proof=[]),
        lambda: verify_consistency(old_size=3, new_size=4, old_root=good, new_root=good, proof=[wrong]),
    ]
    for call in calls:
        with pytest.raises(JournalError, match="32 bytes"):
            call()


def test_every_entry_of_every_tree_is_proven() -> None:
    for size in range(1, 70):
        leaves = LEAVES[:size]
        root, nodes = root_of(leaves), nodes_of(leaves)
        for index, leaf in enumerate(leaves):
            proof = inclusion_proof(index, size, nodes)
            verify_inclusion(index=index, size=size, leaf=leaf, root=root, proof=proof)


def test_every_tree_continues_every_smaller_one() -> None:
    nodes = nodes_of(LEAVES[:70])
    for new_size in range(1, 71):
        for old_size in range(1, new_size + 1):
            verify_consistency(
                old_size=old_size,
                new_size=new_size,
                old_root=root_of(LEAVES[:old_size]),
                new_root=root_of(LEAVES[:new_size]),
                proof=consistency_proof(old_size, new_size, nodes),
            )


@given(data=st.data(), size=sizes)
def test_an_inclusion_proof_with_any_bit_flipped_fails(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaves = LEAVES[:size]
    parts = [leaves[index], root_of(leaves), *inclusion_proof(index, size, nodes_of(leaves))]
    at = data.draw(st.integers(0, len(parts) - 1))
    parts[at] = flip(parts[at], data.draw(st.integers(0, 255)))
    leaf, root, *proof = parts
    with pytest.raises(JournalError):
        verify_inclusion(index=index, size=size, leaf=leaf, root=root, proof=proof)


@given(data=st.data(), new_size=st.integers(2, len(LEAVES)))
def test_a_consistency_proof_with_any_bit_flipped_fails(data: st.DataObject, new_size: int) -> None:
    old_size = data.draw(st.integers(1, new_size - 1))
    nodes = nodes_of(LEAVES[:new_size])
    parts = [root_of(LEAVES[:old_size]), root_of(LEAVES[:new_size]), *consistency_proof(old_size, new_size, nodes)]
    at = data.draw(st.integers(0, len(parts) - 1))
    parts[at] = flip(parts[at], data.draw(st.integers(0, 255)))
    old_root, new_root, *proof = parts
    with pytest.raises(JournalError):
        verify_consistency(old_size=old_size, new_size=new_size, old_root=old_root, new_root=new_root, proof=proof)


@given(data=st.data(), size=st.integers(2, len(LEAVES)))
def test_an_inclusion_proof_holds_for_no_other_index(data: st.DataObject, size: int) -> None:
    index, other = data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True))
    leaves = LEAVES[:size]
    proof = inclusion_proof(index, size, nodes_of(leaves))
    with pytest.raises(JournalError):
        verify_inclusion(index=other, size=size, leaf=leaves[index], root=root_of(leaves), proof=proof)


@pytest.mark.parametrize(("index", "size"), [(-1, 4), (4, 4), (0, 0)])
def test_no_proof_of_what_is_not_in_the_tree(index: int, size: int) -> None:
    with pytest.raises(JournalError, match=f"entry {index} is not in a tree of {size}"):
        inclusion_proof(index, size, nodes_of(LEAVES[:4]))


@pytest.mark.parametrize(("old_size", "new_size"), [(0, 4), (5, 4), (-1, 4)])
def test_no_consistency_proof_between_such_sizes(old_size: int, new_size: int) -> None:
    with pytest.raises(JournalError, match=f"from size {old_size} to {new_size}"):
        consistency_proof(old_size, new_size, nodes_of(LEAVES[:4]))


def vectors(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(file.read_bytes()) for file in sorted(folder.rglob("*.json"))]
    assert len(found) == 98
    return found


def decoded(hashes: list[str] | None) -> list[bytes]:
    return [base64.b64decode(each) for each in hashes or []]


def test_published_inclusion_proofs(shared_data: Path) -> None:
    """Good ones verify, bad ones do not (transparency-dev/merkle)."""
    for vector in vectors(shared_data / "vectors/merkle/inclusion"):
        leaf, root = decoded([vector["leafHash"], vector["root"]])
        try:
            verify_inclusion(
                index=vector["leafIdx"], size=vector["treeSize"], leaf=leaf, root=root, proof=decoded(vector["proof"])
            )
        except JournalError:
            assert vector["wantErr"], vector
        else:
            assert not vector["wantErr"], vector


def test_published_consistency_proofs(shared_data: Path) -> None:
    """As for inclusion; the one difference is a good vector whose "roots" are 12 bytes, which we refuse."""
    for vector in vectors(shared_data / "vectors/merkle/consistency"):
        old_root, new_root = decoded([vector["root1"], vector["root2"]])
        bad = vector["wantErr"] or len(old_root) != 32
        try:
            verify_consistency(
                old_size=vector["size1"],
                new_size=vector["size2"],
                old_root=old_root,
                new_root=new_root,
                proof=decoded(vector["proof"]),
            )
        except JournalError:
            assert bad, vector
        else:
            assert not bad, vector
