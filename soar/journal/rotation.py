"""The log's key: locked at rest, and handed over to the next one so that whoever trusts the old can follow.

A handover is an entry that names both keys, and a checkpoint over it that both of them signed. The proof of that entry
(`prove_entry`) is the handover's certificate: from the old key it leads to the new.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from soar.errors import JournalError
from soar.journal.checkpoint import Checkpoint, open_checkpoint
from soar.journal.leaf import parse_leaf
from soar.journal.note import Signer, Verifier, open_note, sign_note
from soar.journal.proof import EntryProof
from soar.journal.standing import CONTINUED, continues
from soar.journal.trust import TrustPolicy
from soar.journal.verify import KEY_ROTATED

HANDOVERS = (KEY_ROTATED, CONTINUED)
"""The types of entries in which the key `old` hands over to the key `new`."""

_PRIVATE = "PRIVATE+KEY+"
_LOCKED = "LOCKED+KEY+"
_SALT_BYTES, _NONCE_BYTES = 16, 12
_BOX = _SALT_BYTES + _NONCE_BYTES
_SCRYPT_LOG2_N = 17  # 128 MiB and about a third of a second for each guess (RFC 7914)
_SCRYPT_R = 8
_SCRYPT_MAX_LOG2_N = 20


def lock_key(secret: str, passphrase: str) -> str:
    """A signing key as it may lie on a disk: `LOCKED+KEY+name+id+base64(log2 of scrypt's n || salt || nonce || box)`.

    The box is ChaCha20-Poly1305 over the key's own text; name and id are bound to it, and readable without passphrase.
    """
    shown = _shown(secret)
    if not secret.startswith(_PRIVATE) or not passphrase:
        raise JournalError("a private key is locked with a passphrase, and neither may be missing")
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    key = _derived(passphrase, salt, _SCRYPT_LOG2_N)
    box = ChaCha20Poly1305(key).encrypt(nonce, secret.encode(), shown.encode())
    return f"{_LOCKED}{shown}+{base64.b64encode(bytes([_SCRYPT_LOG2_N]) + salt + nonce + box).decode()}"


def unlock_key(text: str, passphrase: str | None) -> str:
    """The key's own text; a key that is not locked is given back as it is.

    Raises JournalError for a wrong or missing passphrase, or a key that was changed.
    """
    if not text.startswith(_LOCKED):
        return text
    shown = _shown(text)
    if not passphrase:
        raise JournalError(f"the key {shown} is locked, and no passphrase was given")
    try:
        raw = base64.b64decode(text[len(f"{_LOCKED}{shown}+") :], validate=True)
        cost, rest = raw[0], raw[1:]
        salt, nonce, box = rest[:_SALT_BYTES], rest[_SALT_BYTES:_BOX], rest[_BOX:]
        return ChaCha20Poly1305(_derived(passphrase, salt, cost)).decrypt(nonce, box, shown.encode()).decode()
    except (InvalidTag, ValueError, IndexError) as error:
        raise JournalError(
            f"the key {shown} does not open: the passphrase is wrong, or the file was changed"
        ) from error


def handover(old: Verifier, new: Verifier) -> dict[str, str | int | bool]:
    """The `data` of the entry of type `journal.key_rotated`; raises JournalError for keys of two logs, or one key."""
    if old.name != new.name or old.public_key == new.public_key:
        raise JournalError(f"a key of {old.name!r} is followed by another one of that name, not by {new}")
    return {"old": str(old), "new": str(new)}


def sign_handover(checkpoint: Checkpoint, *, old: Signer, new: Signer) -> str:
    """The checkpoint over the handover's entry, signed by both: the old key's last word and the new one's first.

    It bears the name that the log has from now on: that of the new key.
    """
    if new.name != checkpoint.origin:
        raise JournalError(f"the key of {new.name!r} cannot sign for the log {checkpoint.origin!r}")
    return sign_note(checkpoint.to_text(), old, new)


def follow(proof: EntryProof, trusted: Verifier) -> Verifier:
    """The key that `trusted` handed over to, by the proof of the handover's entry.

    Raises JournalError unless `trusted` signed a checkpoint over an entry that names it and its successor, and the
    successor signed that checkpoint too. Where the log took a new name, that name is the successor's.
    """
    fields = parse_leaf(proof.leaf)
    if (told := continues(fields, index=proof.index, kept=0)) is not None:
        proof.verify(TrustPolicy.of([told.new]))
        open_note(proof.note, [trusted])
        if told.old != trusted:
            raise JournalError(f"entry {proof.index} continues the log of another key than {trusted}", proof.index)
        return told.new
    proof.verify(TrustPolicy.of([trusted]))
    if fields["type"] != KEY_ROTATED:
        raise JournalError(f"entry {proof.index} is of type {fields['type']!r:.80}, no handover of a key", proof.index)
    new = Verifier.from_text(str(fields["data"].get("new", "")))
    if fields["data"] != handover(trusted, new):
        raise JournalError(f"entry {proof.index} hands over another key than {trusted}", proof.index)
    open_checkpoint(proof.note, [new])
    return new


def first_key(leaves: Iterable[bytes], key: Verifier) -> Verifier:
    """The key that the log began with, if its handovers lead from it to `key`; else `key` itself.

    `leaves` are those of the types `HANDOVERS`. A hint, no proof: verification begins with it and must then find `key`
    (see `LogCheck`).
    """
    before: dict[str, str] = {}
    for leaf in leaves:
        with contextlib.suppress(JournalError):  # verification says what is wrong with it
            data = parse_leaf(leaf)["data"]
            before[str(data.get("new"))] = str(data.get("old"))
    first = key
    with contextlib.suppress(JournalError):
        while (old := before.pop(str(first), None)) is not None:
            first = Verifier.from_text(old)
    return first


def _shown(text: str) -> str:
    """The public part, `name+id`, of a key's text."""
    return "+".join(text.removeprefix(_PRIVATE).removeprefix(_LOCKED).split("+")[:2])


def _derived(passphrase: str, salt: bytes, log2_n: int) -> bytes:
    if log2_n > _SCRYPT_MAX_LOG2_N:
        raise ValueError(f"scrypt's n of 2^{log2_n} is beyond reason")
    memory = 2 * 128 * _SCRYPT_R << log2_n
    return hashlib.scrypt(passphrase.encode(), salt=salt, n=1 << log2_n, r=_SCRYPT_R, p=1, dklen=32, maxmem=memory)
