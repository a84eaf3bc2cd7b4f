"""Cosignatures (c2sp.org/tlog-cosignature, Ed25519, type 0x04): a witness says when it saw which checkpoint.

Whoever cosigns states: this was, at that time, the largest tree of this log that I have seen, and it continues every
one that I saw before. What is signed is not the checkpoint's text alone:

    cosignature/v1
    time <seconds since 1970>
    <the checkpoint's text>

and what follows the key id in the signature line is the time as 8 bytes, big endian, then the 64 bytes of Ed25519.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from soar.errors import JournalError
from soar.journal.note import Signer, Verifier
from soar.model.clock import Clock

COSIGNATURE = b"\x04"
_TIME_BYTES = 8
_SECONDS_MAX = 253_402_300_799  # the last second of the year 9999, as far as `datetime` goes
_PRIVATE = "PRIVATE+KEY+"


@dataclass(frozen=True, slots=True)
class CosignatureVerifier:
    """A witness's public key and name. As text: `name+hex(key id)+base64(0x04 || key)`."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        Verifier(self.name, self.public_key)  # names and keys of witnesses follow the rules of all notes

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256 over name, newline, type and key."""
        return hashlib.sha256(self.name.encode() + b"\n" + COSIGNATURE + self.public_key).digest()[:4]

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Whether this witness cosigned exactly `text` at the time that `signature` tells."""
        seconds, raw = int.from_bytes(signature[:_TIME_BYTES], "big"), signature[_TIME_BYTES:]
        return seconds <= _SECONDS_MAX and Verifier(self.name, self.public_key).verifies(_message(seconds, text), raw)

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(COSIGNATURE + self.public_key).decode()}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the text form; raises JournalError for any other spelling, type or key id."""
        name, key = _parts(text, f"witness key {text!r:.200}")
        verifier = cls(name, key)
        if str(verifier) != text:
            raise JournalError(f"witness key {text!r:.200}: its key id is not that of this name and key")
        return verifier


class Cosigner:
    """A witness's private key and name. `to_text` is the secret; `repr` shows only the public half.

    The key must serve nothing else: the signed bytes do not name the witness.
    """

    def __init__(self, name: str, seed: bytes, *, clock: Clock) -> None:
        self._ed25519 = Signer(name, seed)
        self._seed = seed
        self._clock = clock
        self.verifier = CosignatureVerifier(name, self._ed25519.verifier.public_key)
        self.key_id = self.verifier.key_id

    @property
    def name(self) -> str:
        """Whose key this is."""
        return self.verifier.name

    def sign(self, text: bytes) -> bytes:
        """The clock's time, in whole seconds, and the signature over it and `text`."""
        seconds = int(self._clock.now().timestamp())
        return seconds.to_bytes(_TIME_BYTES, "big") + self._ed25519.sign(_message(seconds, text))

    def to_text(self) -> str:
        """The secret: `PRIVATE+KEY+name+hex(key id)+base64(0x04 || seed)`."""
        secret = base64.b64encode(COSIGNATURE + self._seed).decode()
        return f"{_PRIVATE}{self.name}+{self.key_id.hex()}+{secret}"

    @classmethod
    def from_text(cls, text: str, *, clock: Clock) -> Self:
        """The inverse of `to_text`; raises JournalError, which never shows the secret."""
        if not text.startswith(_PRIVATE):
            raise JournalError(f"the witness's signing key is not of the form {_PRIVATE}<name>+<key id>+<key>")
        name, seed = _parts(text.removeprefix(_PRIVATE), "the witness's signing key")
        cosigner = cls(name, seed, clock=clock)
        if cosigner.to_text() != text:
            raise JournalError(f"the signing key of witness {name!r}: its key id is not that of this name and key")
        return cosigner

    def __repr__(self) -> str:
        return f"Cosigner({self.verifier})"


def cosigned_at(signature: bytes) -> datetime:
    """When a cosignature that was verified was made."""
    return datetime.fromtimestamp(int.from_bytes(signature[:_TIME_BYTES], "big"), UTC)


def _message(seconds: int, text: bytes) -> bytes:
    return b"cosignature/v1\ntime %d\n%s" % (seconds, text)


def _parts(text: str, what: str) -> tuple[str, bytes]:
    """Name and key of `name+id+base64(0x04 || key)`; what else the text may hold shows when it is written again."""
    name, _, rest = text.partition("+")
    try:
        raw = base64.b64decode(rest.partition("+")[2], validate=True)
    except ValueError as error:
        raise JournalError(f"{what}: not base64") from error
    if raw[:1] != COSIGNATURE:
        raise JournalError(f"{what}: its type is not that of Ed25519 cosignatures (0x04)")
    return name, raw[1:]
