"""Asking a witness to cosign our checkpoints, and hearing it when it says that we are not who we were."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from soar.errors import JournalError, OutcomeUnknownError, RejectedError, RemoteFailureError
from soar.journal.checkpoint import Checkpoint
from soar.journal.cosignature import CosignatureVerifier
from soar.journal.standing import Comparison, Standing, behind, fork
from soar.journal.trust import claimed
from soar.journal.witness import Submission, add_signatures

Post = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]
"""Post a body to a URL; gives the status and the answer's body, or raises what the caller shall see."""
Prove = Callable[[int, int], Awaitable[Sequence[bytes]]]
"""The consistency proof from one size to another."""

_FOUND_OUT_ONCE = 2  # the first try may only learn which size the witness knows


@dataclass(frozen=True, slots=True)
class Cosigned:
    """What came of it: the checkpoint, with the witness's line added where `comparison` is OK."""

    note: str
    comparison: Comparison


class WitnessClient:
    """One witness. Keeps in mind what the witness saw last; asks anew after a restart.

    Give it checkpoints one after another, each at least as large as the one before.
    """

    def __init__(self, *, url: str, verifier: CosignatureVerifier, post: Post) -> None:
        """`url` is the submission prefix, without `/add-checkpoint`."""
        self.name = verifier.name
        self._url = f"{url.rstrip('/')}/add-checkpoint"
        self._verifier = verifier
        self._post = post
        self._seen = 0

    async def cosign(self, note: str, *, prove: Prove) -> Cosigned:
        """Have a signed checkpoint cosigned.

        BEHIND or FORK in the answer means that the witness has seen another history under our name: sign no more.
        Raises what `post` raises; RejectedError, RemoteFailureError or OutcomeUnknownError for an answer that is no
        word on our history, such as one by a proxy. Asking again later does no harm.
        """
        checkpoint = claimed(note)
        for _ in range(_FOUND_OUT_ONCE):
            old = min(self._seen, checkpoint.size)
            proof = tuple(await prove(old, checkpoint.size)) if 0 < old < checkpoint.size else ()
            status, body = await self._post(self._url, Submission(old, proof, note).to_bytes())
            if status == 200:
                return self._taken(note, checkpoint, body)
            if status == 409:
                self._seen = self._size(body)
                if self._seen > checkpoint.size:
                    return Cosigned(note, behind(checkpoint.origin, known=self._seen, size=checkpoint.size))
                if self._seen != old:
                    continue
            if status in {409, 422}:
                return Cosigned(note, fork(checkpoint.origin, known=old))
            break
        raise self._unexpected(status, body)

    def _taken(self, note: str, checkpoint: Checkpoint, body: bytes) -> Cosigned:
        try:
            cosigned = add_signatures(note, body.decode(), [self._verifier])
        except (JournalError, UnicodeDecodeError) as error:
            raise OutcomeUnknownError(
                f"witness {self.name} answered with no cosignature of its own: {error}"
            ) from error
        self._seen = checkpoint.size
        return Cosigned(cosigned, Comparison(Standing.OK))

    def _size(self, body: bytes) -> int:
        text = body.decode(errors="replace").strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 20):
            raise OutcomeUnknownError(
                f"witness {self.name} does not say which size it knows: {text!r:.200}", status=409
            )
        return int(text)

    def _unexpected(self, status: int, body: bytes) -> RejectedError | RemoteFailureError:
        said = body.decode(errors="replace").strip()[:200]
        kind = RemoteFailureError if status >= 500 else RejectedError
        return kind(f"witness {self.name} at {self._url} answered {status}: {said}", status=status)
