"""The witness protocol (c2sp.org/tlog-witness, add-checkpoint) without its HTTP: what is asked, and what is answered.

old <size that the witness saw last>
<consistency proof, base64, one hash a line>

<checkpoint>
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from soar.errors import JournalError
from soar.journal.checkpoint import Checkpoint, open_checkpoint
from soar.journal.cosignature import CosignatureVerifier, Cosigner
from soar.journal.merkle import verify_consistency
from soar.journal.note import Signature, Verifier, open_note
from soar.journal.trust import claimed

PROOF_MAX = 63
SUBMISSION_BYTES_MAX = 64 * 1024
SIZE_MEDIA_TYPE = "text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class Submission:
    """A signed checkpoint, and the proof that it continues the tree of `old_size` entries."""

    old_size: int
    proof: tuple[bytes, ...]
    note: str

    def to_bytes(self) -> bytes:
        """The request's body."""
        lines = [f"old {self.old_size}", *(base64.b64encode(each).decode() for each in self.proof)]
        return ("\n".join(lines) + f"\n\n{self.note}").encode()

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """The inverse of `to_bytes`; raises JournalError for any other spelling."""
        try:
            head, _, note = body.decode().partition("\n\n")
            first, *proof = head.split("\n")
            size = int(first.removeprefix("old "))
            submission = cls(size, tuple(base64.b64decode(each, validate=True) for each in proof), note)
        except ValueError as error:
            raise JournalError(f"not a submission of a checkpoint: {error}") from error
        if submission.to_bytes() != body or size < 0 or len(submission.proof) > PROOF_MAX:
            raise JournalError("not a submission of a checkpoint: an old size, at most 63 hashes, a blank line, a note")
        return submission


@dataclass(frozen=True, slots=True)
class Answer:
    """What a witness answers. `keep` is the cosigned checkpoint, to be made durable before the answer is sent."""

    status: HTTPStatus
    body: str
    media_type: str = "text/plain; charset=utf-8"
    keep: str | None = None
    origin: str = ""


Latest = Callable[[str], Checkpoint | None]
"""The checkpoint that was cosigned last for an origin."""


def judge(body: bytes, *, logs: Mapping[str, Sequence[Verifier]], latest: Latest, cosigner: Cosigner) -> Answer:
    """Decide on a submission; pure but for `latest` and the cosigner's clock.

    Nobody else may move what `latest` tells between this call and the moment when `keep` is durable.
    """
    try:
        submission = Submission.from_bytes(body)
        checkpoint = claimed(submission.note)
    except JournalError as error:
        return _refused(HTTPStatus.BAD_REQUEST, str(error))
    if checkpoint.origin not in logs:
        return _refused(HTTPStatus.NOT_FOUND, f"this witness does not know the log {checkpoint.origin!r:.200}")
    try:
        open_checkpoint(submission.note, logs[checkpoint.origin])
    except JournalError as error:
        return _refused(HTTPStatus.FORBIDDEN, str(error))
    known = latest(checkpoint.origin)
    return _disagreement(submission, checkpoint, known) or _cosigned(submission.note, checkpoint, cosigner)


def _disagreement(submission: Submission, checkpoint: Checkpoint, known: Checkpoint | None) -> Answer | None:
    """Why a checkpoint that its log signed is not cosigned; None where it continues what was seen."""
    old_size, known_size = submission.old_size, known.size if known else 0
    if old_size > checkpoint.size:
        return _refused(HTTPStatus.BAD_REQUEST, f"the old size {old_size} is above the checkpoint's {checkpoint.size}")
    if old_size != known_size or (known and known.size == checkpoint.size and known.root != checkpoint.root):
        return Answer(HTTPStatus.CONFLICT, f"{known_size}\n", SIZE_MEDIA_TYPE, origin=checkpoint.origin)
    try:
        _check_proof(submission.proof, known, checkpoint)
    except JournalError as error:
        return _refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), checkpoint.origin)
    return None


def _check_proof(proof: Sequence[bytes], known: Checkpoint | None, new: Checkpoint) -> None:
    if known and known.size:
        verify_consistency(old_size=known.size, new_size=new.size, old_root=known.root, new_root=new.root, proof=proof)
    elif proof:
        raise JournalError("there is nothing yet that a proof could start from")


def _cosigned(note: str, checkpoint: Checkpoint, cosigner: Cosigner) -> Answer:
    line = str(Signature(cosigner.name, cosigner.key_id, cosigner.sign(checkpoint.to_text().encode())))
    return Answer(HTTPStatus.OK, line, keep=add_signatures(note, line, [cosigner.verifier]), origin=checkpoint.origin)


def add_signatures(note: str, lines: str, witnesses: Sequence[CosignatureVerifier]) -> str:
    """The checkpoint with those of a witness's answer lines that are good cosignatures by a witness we know.

    An older cosignature by the same key makes room. Raises JournalError where there is none.
    """
    text = note[: note.rindex("\n\n") + 2]
    ours = note[len(text) :].splitlines(keepends=True)
    answered = open_note(text + lines, witnesses)
    if f"{answered.text}\n" != text:
        raise JournalError("a witness answers with signature lines, not with a text of its own")
    fresh = {(each.name, each.key_id) for each in answered.verified}
    kept = [each for each in ours if not _is_by(each, fresh)]
    return text + "".join([*kept, *map(str, answered.verified)])


def _is_by(line: str, keys: set[tuple[str, bytes]]) -> bool:
    _, name, encoded = line.split(" ")
    return (name, base64.b64decode(encoded)[:4]) in keys


def _refused(status: HTTPStatus, why: str, origin: str = "") -> Answer:
    return Answer(status, f"{why}\n", origin=origin)
