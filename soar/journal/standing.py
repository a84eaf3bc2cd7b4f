"""Is the tree that we hold the one that others have seen? A restored backup says no, and must not be signed.

Whoever signs again what was cut off makes two histories under one name, and every witness will say so for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from soar.errors import JournalError
from soar.journal.checkpoint import Checkpoint, open_checkpoint
from soar.journal.merkle import EMPTY_ROOT, Frontier, Nodes
from soar.journal.note import Verifier
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
    known: int = 0  # entries that others have seen, where that is the trouble


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
        known=known,
        message=f"the journal {origin} has {size} entries, but a checkpoint over {known} was published: entries"
        f" {size} to {known - 1} are gone, most likely because a backup was restored. Nothing will be signed."
        f" {_REMEDY}",
    )


def fork(origin: str, *, known: int) -> Comparison:
    """The journal is another one than others have seen under its name."""
    return Comparison(
        Standing.FORK,
        known=known,
        message=f"the journal {origin} does not begin with the {known} entries of a checkpoint that was published: it"
        f" was rewritten, or continued from a restored backup. Nothing will be signed. Find out who did it: soar audit"
        f" verify. {_REMEDY}",
    )


_REMEDY = (
    "If you have the store that the checkpoint was signed over, stop the service and put that back. If it is lost,"
    " stop the service, set journal.origin to a new name, and run: soar audit continue --reason ... From then on the"
    " journal is signed under that name, and names the old checkpoint: what was lost stays visible for ever."
)


def root_at(size: int, nodes: Nodes) -> bytes:
    """The root that the tree had at `size` entries."""
    parts, first = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            parts.append(nodes(level, first >> level))
            first += 1 << level
    return Frontier(size, tuple(parts)).root() if size else EMPTY_ROOT


@dataclass(frozen=True, slots=True)
class Continuation:
    """From entry `index` on, the log has the name and key `new`; `lost` was published under the name before.

    The first `kept` entries are under a checkpoint of the old name that is still there: where `lost` covers more, the
    others of its entries are gone, whatever now stands in their place.
    """

    index: int
    old: Verifier
    new: Verifier
    lost: Checkpoint
    kept: int

    def __str__(self) -> str:
        told = f"entry {self.index} continues the log {self.old.name} as {self.new.name}"
        if self.lost.size > self.kept:
            return f"{told}: entries {self.kept} to {self.lost.size - 1} that were published under that name are lost"
        return f"{told}: the {self.lost.size} entries that were published under that name were not all the same"


def continued(note: str, *, old: Verifier, new: Verifier) -> dict[str, str | int | bool]:
    """The `data` of the entry of type `journal.continued`: the log's keys before and after, and what was published.

    `note` is the last checkpoint under the old name with its signatures, as it was kept elsewhere. Raises JournalError
    where it is not signed by `old`, or where both keys bear one name.
    """
    lost = open_checkpoint(note, [old])
    if old.name == new.name:
        raise JournalError(f"a log that continues {old.name!r} has another name")
    return {
        "origin": lost.origin,
        "size": lost.size,
        "root": lost.root.hex(),
        "checkpoint": note,
        "old": str(old),
        "new": str(new),
    }


def continues(fields: Mapping[str, Any], *, index: int, kept: int) -> Continuation | None:
    """What the leaf `index` says that its log continues; None for a leaf that says nothing of the kind.

    Raises JournalError where the leaf contradicts the checkpoint that it carries, or the old key did not sign that.
    Whether the new key may follow is another question: from the first checkpoint that both sign, it does.
    """
    if fields.get("type") != CONTINUED:
        return None
    data = fields["data"]
    note, old, new = (str(data.get(name, "")) for name in ("checkpoint", "old", "new"))
    before, after = Verifier.from_text(old), Verifier.from_text(new)
    if data != continued(note, old=before, new=after):
        raise JournalError(f"entry {fields['id']!r:.80} names another log than the checkpoint that it carries")
    return Continuation(index, before, after, claimed(note), kept)
