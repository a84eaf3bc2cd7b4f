"""The Merkle tree of RFC 6962 and RFC 9162 (section 2.1): hashes, frontier, proofs.

Every hash is exactly 32 bytes, and that is checked wherever one comes in: a tree whose hashes may have any length
lets bytes move between a left and a right child without changing the parent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from soar.errors import JournalError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

_LEAF = b"\x00"
_NODE = b"\x01"
_FRONTIER_VERSION = 1
_FRONTIER_HEADER = 9  # version byte, then the size as 8 bytes, big endian

Nodes = Callable[[int, int], bytes]
"""`nodes(level, index)`: the hash of the complete subtree over `2**level` leaves from leaf `index * 2**level` on.

Level 0 is the leaf hashes themselves. These are the coordinates that tiles use.
"""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry's bytes."""
    return hashlib.sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two children; raises JournalError unless both are hashes."""
    return hashlib.sha256(_NODE + _hash(left, "a left child") + _hash(right, "a right child")).digest()


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """The root of the tree with these leaves, in order."""
    return Frontier().extend(leaf_hashes).root()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: all that is needed to append to it and to know its root.

    A value: appending returns another Frontier, so that a transaction which fails leaves the old one true.
    `hashes` are the roots of the complete subtrees that make up the tree, from the largest (left) to the smallest;
    there are as many as `size` has one-bits ("compact range" in the literature of transparency logs). Raises
    JournalError where their number or length does not fit.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise JournalError(f"a frontier of size {self.size} cannot have {len(self.hashes)} hashes")
        for each in self.hashes:
            _hash(each, "a frontier's hash")

    def append(self, leaf: bytes) -> Frontier:
        """The frontier after one more leaf hash; `self` stays as it is."""
        return self.extend((leaf,))

    def extend(self, leaf_hashes: Iterable[bytes]) -> Frontier:
        """The frontier after all these leaf hashes, in order; `self` stays as it is."""
        size = self.size
        stack = list(self.hashes)
        for each in leaf_hashes:
            node = each if type(each) is bytes and len(each) == HASH_BYTES else _hash(each, f"leaf {size}")
            # Each trailing one-bit of the size is a complete subtree as large as the one being carried up.
            carry = size
            while carry & 1:
                node = hashlib.sha256(_NODE + stack.pop() + node).digest()
                carry >>= 1
            stack.append(node)
            size += 1
        return Frontier(size, tuple(stack))

    def root(self) -> bytes:
        """The root hash of the whole tree; of no leaves, SHA-256 of nothing."""
        return _fold(self.hashes)

    def to_bytes(self) -> bytes:
        """Version byte 1, the size as 8 bytes big endian, then the hashes."""
        return bytes([_FRONTIER_VERSION]) + self.size.to_bytes(8, "big") + b"".join(self.hashes)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The inverse of `to_bytes`; raises JournalError for anything else."""
        if len(raw) < _FRONTIER_HEADER or raw[0] != _FRONTIER_VERSION:
            raise JournalError(
                f"not a frontier of version {_FRONTIER_VERSION}: {len(raw)} bytes, begins {raw[:1].hex()!r}"
            )
        size = int.from_bytes(raw[1:_FRONTIER_HEADER], "big")
        wanted = _FRONTIER_HEADER + size.bit_count() * HASH_BYTES
        if len(raw) != wanted:
            raise JournalError(f"a frontier of size {size} takes {wanted} bytes, not {len(raw)}")
        return cls(size, tuple(raw[at : at + HASH_BYTES] for at in range(_FRONTIER_HEADER, wanted, HASH_BYTES)))


def nodes_of(leaf_hashes: Sequence[bytes]) -> Nodes:
    """All nodes of a tree small enough to be held in memory, for making proofs."""
    levels = [[_hash(each, f"leaf {index}") for index, each in enumerate(leaf_hashes)]]
    while len(below := levels[-1]) > 1:
        levels.append([node_hash(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)])
    return lambda level, index: levels[level][index]


def inclusion_proof(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """What proves that leaf `index` is in the tree of `size` leaves: siblings from the leaf up (RFC 9162, 2.1.3.1)."""
    if not 0 <= index < size:
        raise JournalError(f"entry {index} is not in a tree of {size} entries", index)
    proof = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            proof.append(_range_hash(middle, high, nodes))
            high = middle
        else:
            proof.append(_range_hash(low, middle, nodes))
            low = middle
    return proof[::-1]


def verify_inclusion(*, index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the leaf hash `leaf` is entry `index` of the tree (RFC 9162, 2.1.3.2); raises JournalError if not."""
    _hash(leaf, "the leaf hash")
    _hash(root, "the root")
    if not 0 <= index < size:
        raise JournalError(f"entry {index} is not in a tree of {size} entries", index)
    _, reached = _climb(index, size - 1, [leaf, *proof])
    if reached != root:
        raise JournalError(f"the proof does not show entry {index} in the tree of {size} with root {root.hex()}", index)


def consistency_proof(old_size: int, new_size: int, nodes: Nodes) -> list[bytes]:
    """What proves that the tree of `old_size` leaves is the beginning of that of `new_size` (RFC 9162, 2.1.4.1)."""
    if not 0 < old_size <= new_size:
        raise JournalError(f"there is no consistency proof from size {old_size} to {new_size}")
    proof = []
    low, high = 0, new_size
    while high != old_size:
        middle = low + _split(high - low)
        if old_size <= middle:
            proof.append(_range_hash(middle, high, nodes))
            high = middle
        else:
            proof.append(_range_hash(low, middle, nodes))
            low = middle
    if low:  # otherwise what is left is the whole old tree, whose root the verifier has
        proof.append(_range_hash(low, high, nodes))
    return proof[::-1]


def verify_consistency(
    *, old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the new tree only appended to the old one (RFC 9162, 2.1.4.2); raises JournalError if not.

    An old size of 0 is refused: every tree continues the empty one, so such a proof says nothing.
    """
    _hash(old_root, "the old root")
    _hash(new_root, "the new root")
    if not 0 < old_size <= new_size:
        raise JournalError(f"there is no consistency proof from size {old_size} to {new_size}")
    if old_size == new_size:
        if proof or old_root != new_root:
            raise JournalError(f"two trees of size {new_size} are not the same tree")
        return
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    # A whole power of two stands as one node in the new tree: its root is the proof's silent first hash.
    old, new = _climb(position, last, list(proof) if position else [old_root, *proof])
    if old != old_root or new != new_root:
        raise JournalError(f"the proof does not show that the tree of {new_size} continues the tree of {old_size}")


def _climb(position: int, last: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Walk from a node to the root, taking in one sibling a step; `last` is the position of the level's last node.

    Gives two roots: over what lies at and left of the node, and over everything. Both RFC 9162 verifications are this
    walk: inclusion needs the second root, consistency needs both.
    """
    if not path:
        raise JournalError("an empty proof proves nothing here")
    left = whole = _hash(path[0], "a hash of the proof")
    for sibling in path[1:]:
        if not last:
            raise JournalError(f"the proof is too long: {len(path)} hashes")
        if position & 1 or position == last:
            left, whole = node_hash(sibling, left), node_hash(sibling, whole)
            while not position & 1:  # a last node without a sibling rises unchanged
                position, last = position >> 1, last >> 1
        else:
            whole = node_hash(whole, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise JournalError(f"the proof is too short: {len(path)} hashes")
    return left, whole


def _hash(value: bytes, what: str) -> bytes:
    if not isinstance(value, bytes) or len(value) != HASH_BYTES:
        raise JournalError(f"{what} is not {HASH_BYTES} bytes: {value!r:.80}")
    return value


def _fold(hashes: Sequence[bytes]) -> bytes:
    """The root over neighbouring complete subtrees that shrink from left to right."""
    if not hashes:
        return EMPTY_ROOT
    *rest, root = hashes
    for each in reversed(rest):
        root = node_hash(each, root)
    return root


def _split(count: int) -> int:
    """The largest power of two below `count`: how many of `count` leaves go to the left."""
    return 1 << (count - 1).bit_length() - 1


def _range_hash(low: int, high: int, nodes: Nodes) -> bytes:
    """The root over leaves `low` up to `high`, a range that the split of some tree yields."""
    parts = []
    while low < high:
        level = (high - low).bit_length() - 1
        parts.append(nodes(level, low >> level))
        low += 1 << level
    return _fold(parts)
