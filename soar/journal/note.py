"""Signed notes with Ed25519 (c2sp.org/signed-note): a short text and lines that say who signed it.

    <text, ends with a newline>
    <blank line>
    — <name> <base64 of key id and signature>

A signature covers the text with its last newline, without the blank line. Lines by unknown keys are ignored, so that
others may sign the same text with types of their own: cosignatures (0x04), ML-DSA-44 (0x06).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from soar.errors import JournalError

ED25519 = b"\x01"
SIGNATURES_MAX = 100  # a bound on the work that a stranger's note can cause
_KEY_BYTES = 32
_KEY_ID_BYTES = 4
_DASH = "\u2014 "
_PRIVATE = "PRIVATE+KEY+"


class Signs(Protocol):
    """One key that signs, of whatever type; `sign` gives what follows the key id in the signature line."""

    @property
    def name(self) -> str:
        """Whose key this is."""
        ...

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell this key from others of the same name."""
        ...

    def sign(self, text: bytes) -> bytes:
        """The signature over the note's text."""
        ...


class Verifies(Protocol):
    """One key that verifies, of whatever type."""

    @property
    def name(self) -> str:
        """Whose key this is."""
        ...

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell this key from others of the same name."""
        ...

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Whether `signature` (what follows the key id) is this key's over the note's text."""
        ...


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: a name, the four bytes of the key id, and the rest."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {_encode(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note whose signatures were checked: at least one `verified`, the others by keys we do not know."""

    text: str
    verified: tuple[Signature, ...]
    unknown: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public Ed25519 key and its name. As text: `name+hex(key id)+base64(type || key)`."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.public_key) != _KEY_BYTES:
            raise JournalError(f"key {self.name!r}: an Ed25519 key is {_KEY_BYTES} bytes, not {len(self.public_key)}")

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256 over name, newline, type and key."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public_key).digest()[:_KEY_ID_BYTES]

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Whether this key signed exactly `text`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text)
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_encode(ED25519 + self.public_key)}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the text form; raises JournalError for any other spelling, type or key id."""
        name, _, rest = text.partition("+")
        key = _decode(rest.partition("+")[2], f"verifier key {text!r:.200}")
        if key[:1] != ED25519:
            raise JournalError(f"verifier key {text!r:.200}: its type is not Ed25519 (0x01)")
        verifier = cls(name, key[1:])
        if str(verifier) != text:
            raise JournalError(f"verifier key {text!r:.200}: its key id is not that of this name and key")
        return verifier


class Signer:
    """A private Ed25519 key and its name. `to_text` is the secret; `repr` shows only the public half."""

    def __init__(self, name: str, seed: bytes) -> None:
        if len(seed) != _KEY_BYTES:
            raise JournalError(f"key {name!r}: an Ed25519 seed is {_KEY_BYTES} bytes, not {len(seed)}")
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = Verifier(name, self._key.public_key().public_bytes_raw())
        self.key_id = self.verifier.key_id

    @classmethod
    def generate(cls, name: str) -> Self:
        """A fresh key from the operating system's random source."""
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def name(self) -> str:
        """Whose key this is."""
        return self.verifier.name

    def sign(self, text: bytes) -> bytes:
        """The 64 bytes of the signature over `text`."""
        return self._key.sign(text)

    def to_text(self) -> str:
        """The secret, as Go's `sumdb/note` writes it: `PRIVATE+KEY+name+hex(key id)+base64(type || seed)`."""
        return f"{_PRIVATE}{self.name}+{self.key_id.hex()}+{_encode(ED25519 + self._seed)}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The inverse of `to_text`; raises JournalError, which never shows the secret."""
        name, _, rest = text.removeprefix(_PRIVATE).partition("+")
        key = _decode(rest.partition("+")[2], "the signing key")
        if not text.startswith(_PRIVATE) or key[:1] != ED25519:
            raise JournalError(f"the signing key is not of the form {_PRIVATE}<name>+<key id>+<Ed25519 key>")
        signer = cls(name, key[1:])
        if signer.to_text() != text:
            raise JournalError(f"the signing key of {name!r}: its key id is not that of this name and key")
        return signer

    def __repr__(self) -> str:
        return f"Signer({self.verifier})"


def sign_note(text: str, *signers: Signs) -> str:
    """The note with one signature line for each signer; raises JournalError for a text that is none."""
    _check_text(text)
    if not signers:
        raise JournalError("a signed note needs a signer")
    body = text.encode()
    return f"{text}\n" + "".join(str(Signature(each.name, each.key_id, each.sign(body))) for each in signers)


def open_note(note: str, verifiers: Iterable[Verifies]) -> Note:
    """Check a note's form and signatures.

    Raises JournalError if the form is wrong, if a known key's signature is wrong, or if no known key signed.
    """
    if not isinstance(note, str):
        raise JournalError(f"a signed note is text, not {type(note).__name__}")
    head, separator, tail = note.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise JournalError(
            "not a signed note: it needs a text, a blank line, and signature lines that end in a newline"
        )
    text = f"{head}\n"
    _check_text(text)
    lines = tail[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise JournalError(f"the note has {len(lines)} signatures, more than {SIGNATURES_MAX}")
    known = {(each.name, each.key_id): each for each in verifiers}
    verified, unknown = [], []
    for signature in map(_signature, lines):
        verifier = known.get((signature.name, signature.key_id))
        if verifier is None:
            unknown.append(signature)
        elif verifier.verifies(text.encode(), signature.signature):
            verified.append(signature)
        else:
            raise JournalError(f"the signature of {signature.name!r} is not over this text")
    if not verified:
        names = ", ".join(sorted({repr(name) for name, _ in known})) or "nobody"
        raise JournalError(f"no key that we know signed the note; we know {names}")
    return Note(text, tuple(verified), tuple(unknown))


def _signature(line: str) -> Signature:
    dash, name, encoded = line[: len(_DASH)], *line[len(_DASH) :].partition(" ")[::2]
    if dash != _DASH:
        raise JournalError(f"not a signature line: {line!r:.200}")
    _check_name(name)
    raw = _decode(encoded, f"signature line {line!r:.200}")
    if len(raw) <= _KEY_ID_BYTES:
        raise JournalError(f"signature line {line!r:.200}: {len(raw)} bytes hold no key id and signature")
    return Signature(name, raw[:_KEY_ID_BYTES], raw[_KEY_ID_BYTES:])


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise JournalError("a note's text ends with a newline")
    if any(character < " " and character != "\n" for character in text) or not _encodable(text):
        raise JournalError("a note's text is UTF-8 without control characters other than newline")


def _check_name(name: str) -> None:
    if not name or "+" in name or any(each.isspace() or each < " " for each in name) or not _encodable(name):
        raise JournalError(f"a key name has no spaces, plus or control characters and is not empty: {name!r}")


def _encodable(text: str) -> bool:
    """Whether this is text that UTF-8 can say (no lone surrogates)."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decode(text: str, what: str) -> bytes:
    """Standard base64 with padding, in the one spelling that these bytes have."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise JournalError(f"{what}: not base64") from error
    if _encode(raw) != text:
        raise JournalError(f"{what}: not canonical base64")
    return raw
