"""Signed notes: the published log's own key, one spelling for everything, and no signature that counts by mistake."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soar.errors import JournalError
from soar.journal.note import SIGNATURES_MAX, Signature, Signer, Verifier, open_note, sign_note

PUBLISHED_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
PUBLISHED_NOTE = """example.com/log/testdata
1
0Nc2CrefWKseHj/mStd+LqC8B+NrX0btIiPt2SmN+ek=

— example.com/log/testdata M9e0lhr9kuLxGdAtaUrhm84TQffVsLdcy808sN0a3WyniNlfcr9+bywoiIke1YYciCNjJGkCgIlQ8b16jhsmg/SChAM=
"""

ONE = Signer("log.example/one", bytes(32))
TWO = Signer("log.example/two", bytes([2] * 32))
TEXT = "first\n\nsecond\n"


def test_a_published_note_opens_with_its_published_key() -> None:
    note = open_note(PUBLISHED_NOTE, [Verifier.from_text(PUBLISHED_KEY)])
    assert note.text == PUBLISHED_NOTE.rpartition("\n\n")[0] + "\n"
    assert [each.name for each in note.verified] == ["example.com/log/testdata"]


def test_the_bytes_of_a_note() -> None:
    raw = ONE.key_id + ONE.sign(TEXT.encode())
    assert sign_note(TEXT, ONE) == f"{TEXT}\n\u2014 log.example/one {base64.b64encode(raw).decode()}\n"


def test_a_key_reads_its_own_text_form() -> None:
    assert str(Verifier.from_text(PUBLISHED_KEY)) == PUBLISHED_KEY
    fresh = Signer.generate("log.example/fresh")
    again = Signer.from_text(fresh.to_text())
    assert again.verifier == fresh.verifier == Verifier.from_text(str(fresh.verifier))
    assert fresh.to_text() != Signer.generate("log.example/fresh").to_text()


def test_a_signer_does_not_show_its_secret() -> None:
    secret = ONE.to_text().rpartition("+")[2]
    assert secret not in repr(ONE)
    assert secret not in str(ONE)
    with pytest.raises(JournalError) as caught:
        Signer.from_text(ONE.to_text().replace("one", "two"))
    assert secret not in str(caught.value)


def test_every_known_signer_is_verified_and_strangers_are_ignored() -> None:
    note = open_note(sign_note(TEXT, ONE, TWO), [TWO.verifier])
    assert [each.name for each in note.verified] == [TWO.name]
    assert [each.name for each in note.unknown] == [ONE.name]
    both = open_note(sign_note(TEXT, ONE, TWO), iter([ONE.verifier, TWO.verifier]))
    assert [each.name for each in both.verified] == [ONE.name, TWO.name]


def test_a_note_that_only_strangers_signed_is_refused() -> None:
    with pytest.raises(JournalError, match=r"no key that we know signed the note; we know 'log\.example/two'"):
        open_note(sign_note(TEXT, ONE), [TWO.verifier])
    with pytest.raises(JournalError, match="we know nobody"):
        open_note(sign_note(TEXT, ONE), [])


def test_a_namesake_with_another_key_is_a_stranger() -> None:
    with pytest.raises(JournalError, match="no key that we know"):
        open_note(sign_note(TEXT, ONE), [Signer(ONE.name, bytes([9] * 32)).verifier])


def test_one_false_signature_by_a_known_key_spoils_the_note() -> None:
    """Otherwise a forger could hide behind the line of another signer."""
    false = Signature(ONE.name, ONE.key_id, ONE.sign(b"something else\n"))
    with pytest.raises(JournalError, match=r"signature of 'log\.example/one' is not over this text"):
        open_note(sign_note(TEXT, TWO) + str(false), [ONE.verifier, TWO.verifier])


@dataclass(frozen=True)
class Cosigner:
    """A signature type that soar does not ship: what follows the key id may have any form."""

    name: str = "witness.example"
    key_id: bytes = b"\4abc"

    def sign(self, text: bytes) -> bytes:
        return b"time" + text[:3]

    def verifies(self, text: bytes, signature: bytes) -> bool:
        return signature == self.sign(text)


def test_other_signature_types_fit_in() -> None:
    cosigner = Cosigner()
    note = open_note(sign_note(TEXT, ONE, cosigner), [ONE.verifier, cosigner])
    assert [each.name for each in note.verified] == [ONE.name, "witness.example"]


@given(text=st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.just("\n")))
def test_any_text_comes_back_as_it_was_signed(text: str) -> None:
    assert open_note(sign_note(text + "\n", ONE), [ONE.verifier]).text == text + "\n"


@given(bit=st.integers(0, 10_000))
def test_any_flipped_bit_of_a_note_is_noticed(bit: int) -> None:
    raw = bytearray(sign_note(TEXT, ONE).encode())
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    with pytest.raises((JournalError, UnicodeDecodeError)):
        open_note(raw.decode(), [ONE.verifier])


GOOD = sign_note(TEXT, ONE)
LINE = GOOD.splitlines(keepends=True)[-1]


@pytest.mark.parametrize(
    "note",
    [
        None,
        GOOD.encode(),
        "",
        "\n",
        TEXT,
        TEXT + "\n",
        GOOD[:-1],  # no newline at the end
        GOOD + "\n",
        GOOD.replace("\u2014", "-"),
        GOOD.replace("\u2014 ", "\u2014"),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("first", "fi\trst"),
        GOOD.replace("first", "fi\x00rst"),
        GOOD.replace("first", "fi\ud800rst"),
        GOOD.replace("=\n", "\n"),
        GOOD.replace("=\n", "=  \n"),
        GOOD.replace(" log.example", "  log.example"),
        GOOD.replace("log.example/one", "log+example"),
        GOOD.replace("log.example/one", "log\u00a0example"),
        GOOD + "\u2014 stranger AAAA\n",  # too short for a key id and a signature
        GOOD + "\u2014 stranger\n",
        GOOD + "\u2014 stranger AAAAAAB=\n",  # not the one spelling of these bytes
        GOOD + "something else\n",
        GOOD + LINE * SIGNATURES_MAX,
    ],
)
def test_a_note_of_any_other_form_is_refused(note: Any) -> None:
    with pytest.raises(JournalError):
        open_note(note, [ONE.verifier])


@pytest.mark.parametrize("text", ["", "no newline", "tab\t\n", "\x00\n", "\ud800\n"])
def test_only_a_text_can_be_signed(text: str) -> None:
    with pytest.raises(JournalError, match="a note's text"):
        sign_note(text, ONE)


def test_a_note_without_signers_is_not_made() -> None:
    with pytest.raises(JournalError, match="needs a signer"):
        sign_note(TEXT)


@pytest.mark.parametrize("name", ["", "with space", "a+b", "line\nbreak", "\u2003", "nul\x00", "\ud800"])
def test_a_key_name_has_no_spaces_and_no_plus(name: str) -> None:
    with pytest.raises(JournalError, match="key name"):
        Signer(name, bytes(32))


def spoiled_keys() -> list[str]:
    name, key_id, key = PUBLISHED_KEY.split("+", 2)
    other_type = base64.b64encode(b"\4" + base64.b64decode(key)[1:]).decode()
    short = base64.b64encode(base64.b64decode(key)[:-1]).decode()
    parts = [
        (name, key_id),
        (name, key_id.upper(), key),
        (name, "00000000", key),
        ("other.example", key_id, key),
        (name, key_id, key + "\n"),
        (name, key_id, key[:-1]),
        (name, key_id, other_type),
        (name, key_id, short),
        ("", key_id, key),
    ]
    return ["", "+", "++", *map("+".join, parts)]


@pytest.mark.parametrize("text", spoiled_keys())
def test_a_verifier_key_has_one_spelling(text: str) -> None:
    with pytest.raises(JournalError):
        Verifier.from_text(text)


@pytest.mark.parametrize("text", ["", PUBLISHED_KEY, "PRIVATE+KEY+", ONE.to_text() + "\n", ONE.to_text()[:-4]])
def test_a_signing_key_has_one_spelling(text: str) -> None:
    with pytest.raises(JournalError):
        Signer.from_text(text)


def test_a_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(JournalError, match="32 bytes, not 31"):
        Verifier("log.example", bytes(31))
    with pytest.raises(JournalError, match="32 bytes, not 33"):
        Signer("log.example", bytes(33))
