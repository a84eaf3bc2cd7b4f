"""Is the tree that we hold the one that others have seen? A restored backup says no, and must not be signed.

Whoever signs again what was cut off makes two histories under one name, and every witness will say so for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from soar.errors import JournalError
from soar.journal.checkpoint import Checkpoint
from soar.journal.merkle import EMPTY_ROOT, Frontier, Nodes
from soar.journal.trust import claimed

CONTINUED = "journal.continued"


class Standing(StrEnum):
    """How a tree stands to a checkpoint that was kept elsewhere."""

    OK = "ok"  # it continues it
    BEHIND = "behind"  # it is shorter: a backup was restored, or the end was cut off
    FORK = "fork"  # it is as long or longer, and another one


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found, and in words what to do about it (empty where all is well)."""

    standing: Standing
    message: str = ""


def compare(kept: Checkpoint, *, size: int, nodes: Nodes) -> Comparison:
    """Hold the tree of `size` entries against a checkpoint that was witnessed or anchored, and kept elsewhere."""
    if kept.size > size:
        return behind(kept.origin, known=kept.size, size=size)
    if root_at(kept.size, nodes) != kept.root:
        return fork(kept.origin, known=kept.size)
    return Comparison(Standing.OK)


def behind(origin: str, *, known: int, size: int) -> Comparison:
    """The journal is shorter than what others have seen of it."""
    return Comparison(
        Standing.BEHIND,
        f"the journal {origin} has {size} entries, but a checkpoint over {known} was published: entries {size} to"
        f" {known - 1} are gone, most likely because a backup was restored. Nothing will be signed. {_REMEDY}",
    )


def fork(origin: str, *, known: int) -> Comparison:
    """The journal is another one than others have seen under its name."""
    return Comparison(
        Standing.FORK,
        f"the journal {origin} does not begin with the {known} entries of a checkpoint that was published: it was"
        f" rewritten, or continued from a restored backup. Nothing will be signed. Find out who did it: soar audit"
        f" verify. {_REMEDY}",
    )


_REMEDY = (
    "If you have the store that the checkpoint was signed over, stop the service and put that back. If it is lost,"
    " set journal.origin to a new name, which makes a new log whose first entry names the old checkpoint: what was"
    " lost then stays visible for ever."
)


def root_at(size: int, nodes: Nodes) -> bytes:
    """The root that the tree had at `size` entries."""
    parts, first = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            parts.append(nodes(level, first >> level))
            first += 1 << level
    return Frontier(size, tuple(parts)).root() if size else EMPTY_ROOT


def continued(note: str) -> dict[str, str | int | bool]:
    """The `data` of a new log's first entry, of type `journal.continued`: the last checkpoint of the log before it.

    `note` is that checkpoint with its signatures, as it was kept elsewhere.
    """
    old = claimed(note)
    return {"origin": old.origin, "size": old.size, "root": old.root.hex(), "checkpoint": note}


def continues(fields: Mapping[str, Any]) -> str | None:
    """The signed checkpoint that a leaf says its log continues; None for a leaf that says nothing of the kind.

    Raises JournalError where the leaf contradicts the checkpoint that it carries. Whether the signatures are good is
    for the caller's trust policy.
    """
    if fields.get("type") != CONTINUED:
        return None
    data = fields["data"]
    note = data.get("checkpoint", "")
    if data != continued(note):
        raise JournalError(f"entry {fields['id']!r:.80} names another log than the checkpoint that it carries")
    return str(note)
