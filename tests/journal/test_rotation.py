"""Keys locked at rest, and handed over so that whoever trusts the old one can follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from soar.errors import JournalError
from soar.journal.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from soar.journal.leaf import LEAF_VERSION
from soar.journal.merkle import leaf_hash, nodes_of, root_of
from soar.journal.note import Signer, sign_note
from soar.journal.proof import EntryProof, prove_entry
from soar.journal.rotation import KEY_ROTATED, follow, handover, lock_key, sign_handover, unlock_key
from soar.model.base import canonical

from .logs import LOG, ORIGIN, WITNESSES, make_log

NEW = Signer(ORIGIN, bytes([4] * 32))
THIRD = Signer(ORIGIN, bytes([5] * 32))
SIZE = 40


def leaf(data: dict[str, Any], kind: str = KEY_ROTATED) -> bytes:
    envelope = {"v": LEAF_VERSION, "id": "e", "type": kind, "at": "2026-01-01T00:00:00.000000Z", "actor": "person:a"}
    return canonical({**envelope, "subject": ORIGIN, "data": data})


def certificate(entry: bytes, *signers: Signer) -> EntryProof:
    """A log that ends with this entry, under a checkpoint by these."""
    hashes = [*make_log(SIZE).hashes, leaf_hash(entry)]
    note = sign_note(Checkpoint(ORIGIN, SIZE + 1, root_of(hashes)).to_text(), *signers)
    return prove_entry(SIZE, entry, note=note, nodes=nodes_of(hashes))


def handed(old: Signer, new: Signer) -> EntryProof:
    return certificate(leaf(handover(old.verifier, new.verifier)), old, new)


def test_whoever_trusts_the_old_key_gets_to_the_new_one() -> None:
    """By one file, and from there on to the next."""
    text = handed(LOG, NEW).to_text()
    assert follow(EntryProof.from_text(text), LOG.verifier) == NEW.verifier
    assert follow(handed(NEW, THIRD), follow(handed(LOG, NEW), LOG.verifier)) == THIRD.verifier


def test_the_handover_is_a_checkpoint_to_holders_of_either_key() -> None:
    note = sign_handover(make_log(3).checkpoint(), old=LOG, new=NEW)
    assert open_checkpoint(note, [LOG.verifier]) == open_checkpoint(note, [NEW.verifier])


@pytest.mark.parametrize(
    ("proof", "said"),
    [
        (certificate(leaf(handover(LOG.verifier, NEW.verifier)), NEW), "no key that we know"),
        (certificate(leaf(handover(LOG.verifier, NEW.verifier)), LOG), "no key that we know"),
        (certificate(leaf(handover(THIRD.verifier, NEW.verifier)), LOG, NEW), "hands over another key"),
        (certificate(leaf(handover(LOG.verifier, NEW.verifier), "halt.set"), LOG, NEW), "no handover of a key"),
        (certificate(leaf({"old": str(LOG.verifier)}), LOG, NEW), "verifier key ''"),
        (replace(handed(LOG, NEW), leaf=leaf(handover(LOG.verifier, THIRD.verifier))), "does not show entry"),
    ],
)
def test_nobody_else_hands_over(proof: EntryProof, said: str) -> None:
    """Neither the new key alone, nor the old one to a key that nobody holds, nor an entry about other keys."""
    with pytest.raises(JournalError, match=said):
        follow(proof, LOG.verifier)


def test_a_log_is_handed_over_to_a_new_key_of_its_own_name() -> None:
    other = Signer("other.example", bytes([4] * 32))
    for new in (other, LOG):
        with pytest.raises(JournalError, match="followed by another one of that name"):
            handover(LOG.verifier, new.verifier)
    with pytest.raises(JournalError, match="cannot sign for the log 'x'"):
        sign_handover(Checkpoint("x", 1, bytes(32)), old=LOG, new=NEW)


# At rest.


@pytest.mark.parametrize("secret", [LOG.to_text(), WITNESSES[0].to_text()])
def test_a_locked_key_opens_with_its_passphrase_alone(secret: str) -> None:
    locked = lock_key(secret, "correct horse")
    assert secret not in locked
    assert secret.rpartition("+")[2] not in locked
    assert unlock_key(locked, "correct horse") == secret
    for wrong in ("correct horse ", "x"):
        with pytest.raises(JournalError, match="does not open: the passphrase is wrong"):
            unlock_key(locked, wrong)
    for missing in (None, ""):
        with pytest.raises(JournalError, match="is locked, and no passphrase was given"):
            unlock_key(locked, missing)


def test_two_locked_keys_are_never_alike() -> None:
    assert lock_key(LOG.to_text(), "a") != lock_key(LOG.to_text(), "a")


def test_a_locked_key_that_was_changed_does_not_open() -> None:
    """Its name is bound to it too."""
    locked = lock_key(LOG.to_text(), "a")
    for changed in (locked.replace("log.example", "bog.example"), f"{locked[:-8]}AAAAAAA=", locked[:60], f"{locked}!"):
        with pytest.raises(JournalError, match="does not open"):
            unlock_key(changed, "a")


def test_a_key_that_was_never_locked_is_what_it_is() -> None:
    assert unlock_key(LOG.to_text(), None) == LOG.to_text()


def test_nothing_else_is_locked() -> None:
    for secret, passphrase in [(str(LOG.verifier), "a"), (LOG.to_text(), "")]:
        with pytest.raises(JournalError, match="neither may be missing"):
            lock_key(secret, passphrase)


def test_the_new_key_signs_alone_afterwards() -> None:
    log = make_log(SIZE)
    note = sign_checkpoint(log.checkpoint(), NEW)
    assert open_checkpoint(note, [follow(handed(LOG, NEW), LOG.verifier)]).size == SIZE
