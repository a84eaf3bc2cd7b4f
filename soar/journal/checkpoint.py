"""Checkpoints (c2sp.org/tlog-checkpoint): what the log commits to, signed.

    <origin>
    <size, decimal>
    <root, base64>

Extension lines are refused: this product writes none, and what is not understood should not be believed.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from soar.errors import JournalError
from soar.journal.merkle import EMPTY_ROOT, HASH_BYTES
from soar.journal.note import Signs, Verifies, open_note, sign_note

_SIZE_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log named `origin` has `size` entries, and they are those under `root`."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or "\n" in self.origin:
            raise JournalError(f"a checkpoint's origin is one line: {self.origin!r}")
        if not 0 <= self.size <= _SIZE_MAX:
            raise JournalError(f"a checkpoint of {self.origin} cannot have size {self.size}")
        if len(self.root) != HASH_BYTES:
            raise JournalError(f"a checkpoint's root is {HASH_BYTES} bytes, not {len(self.root)}")
        if not self.size and self.root != EMPTY_ROOT:
            raise JournalError(f"an empty log has the root {EMPTY_ROOT.hex()}, not {self.root.hex()}")

    def to_text(self) -> str:
        """The three lines, as they are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The inverse of `to_text`; raises JournalError for any other spelling."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise JournalError(f"a checkpoint is three lines (origin, size, root), not {text!r:.200}")
        origin, size, root = lines[:3]
        if not (size.isascii() and size.isdecimal() and len(size) <= len(str(_SIZE_MAX))):
            raise JournalError(f"a checkpoint's size is a decimal number, not {size!r:.200}")
        try:
            checkpoint = cls(origin, int(size), base64.b64decode(root, validate=True))
        except ValueError as error:
            raise JournalError(f"a checkpoint's root is base64, not {root!r:.200}") from error
        if checkpoint.to_text() != text:
            raise JournalError(f"the checkpoint is not in its one spelling: {text!r:.200}")
        return checkpoint


def sign_checkpoint(checkpoint: Checkpoint, signer: Signs) -> str:
    """The checkpoint as a signed note; the log's key must bear the log's name."""
    if signer.name != checkpoint.origin:
        raise JournalError(f"the key of {signer.name!r} cannot sign for the log {checkpoint.origin!r}")
    return sign_note(checkpoint.to_text(), signer)


def open_checkpoint(text: str, verifiers: Iterable[Verifies]) -> Checkpoint:
    """Check the signatures and read the checkpoint.

    Raises JournalError unless a known key that bears the log's own name signed: a witness alone is no log.
    """
    note = open_note(text, verifiers)
    checkpoint = Checkpoint.from_text(note.text)
    if all(each.name != checkpoint.origin for each in note.verified):
        raise JournalError(f"the checkpoint of {checkpoint.origin!r} is not signed by a known key of that name")
    return checkpoint
