"""Cosignatures: the published form, byte for byte, and nothing that only looks like one."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from soar.errors import JournalError
from soar.journal.cosignature import CosignatureVerifier, Cosigner, cosigned_at
from soar.journal.note import Signer, Verifier, open_note, sign_note

from .logs import LOG, ORIGIN, START, WITNESSES, Noon, cosigned, make_log

WITNESS = WITNESSES[0]
BODY = f"{ORIGIN}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n".encode()
NOON = int(START.timestamp()) + 12 * 3600


def test_what_is_signed_and_written_is_what_the_specification_says() -> None:
    raw = WITNESS.sign(BODY)
    assert raw[:8] == NOON.to_bytes(8, "big")
    message = b"cosignature/v1\ntime " + str(NOON).encode() + b"\n" + BODY
    Ed25519PublicKey.from_public_bytes(WITNESS.verifier.public_key).verify(raw[8:], message)
    name, key = b"witness-0.example", WITNESS.verifier.public_key
    assert WITNESS.key_id == hashlib.sha256(name + b"\n\x04" + key).digest()[:4]


def test_a_cosignature_tells_when_it_was_made() -> None:
    opened = open_note(cosigned(make_log(3).signed(), WITNESS), [WITNESS.verifier])
    assert [each.name for each in opened.verified] == [WITNESS.name]
    assert int(cosigned_at(opened.verified[0].signature).timestamp()) == NOON


@pytest.mark.parametrize("at", range(72))
def test_a_cosignature_with_any_byte_changed_is_none(at: int) -> None:
    """The time is signed too."""
    raw = bytearray(WITNESS.sign(BODY))
    raw[at] ^= 1
    assert not WITNESS.verifier.verifies(BODY, bytes(raw))


@pytest.mark.parametrize("raw", [b"", bytes(8), bytes(71), bytes(73), b"\xff" * 72])
def test_what_has_another_length_or_no_possible_time_is_no_cosignature(raw: bytes) -> None:
    assert not WITNESS.verifier.verifies(BODY, raw)


def test_a_cosignature_is_of_its_text_only() -> None:
    assert WITNESS.verifier.verifies(BODY, WITNESS.sign(BODY))
    assert not WITNESS.verifier.verifies(BODY + b"more\n", WITNESS.sign(BODY))


def test_a_log_signature_and_a_cosignature_by_one_key_are_never_each_other() -> None:
    """Type and signed bytes differ, so no line can be moved from one role to the other."""
    seed = bytes([7] * 32)
    log, witness = Signer("a.example", seed), Cosigner("a.example", seed, clock=Noon())
    assert log.key_id != witness.key_id
    assert not log.verifier.verifies(BODY, witness.sign(BODY)[8:])
    with pytest.raises(JournalError, match="no key that we know"):
        open_note(sign_note(BODY.decode(), log), [witness.verifier])


def test_keys_as_text() -> None:
    assert CosignatureVerifier.from_text(str(WITNESS.verifier)) == WITNESS.verifier
    assert Cosigner.from_text(WITNESS.to_text(), clock=Noon()).verifier == WITNESS.verifier
    assert "PRIVATE" not in repr(WITNESS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "witness.example",
        "witness.example+00000000+!!",
        str(LOG.verifier),
        str(WITNESS.verifier).replace("witness-0", "witness-1"),
        f"{WITNESS.verifier} ",
        f"{WITNESS.verifier}AA",
    ],
)
def test_what_is_no_witness_key_is_refused(text: str) -> None:
    with pytest.raises(JournalError, match="key"):
        CosignatureVerifier.from_text(text)


@pytest.mark.parametrize("text", ["", LOG.to_text(), WITNESS.to_text()[:-4], WITNESS.to_text().replace("-0", "-1")])
def test_what_is_no_signing_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(JournalError, match="key") as refused:
        Cosigner.from_text(text, clock=Noon())
    assert not text or text.rpartition("+")[2] not in str(refused.value)


def test_a_witness_key_is_no_log_key() -> None:
    with pytest.raises(JournalError, match="not Ed25519"):
        Verifier.from_text(str(WITNESS.verifier))
