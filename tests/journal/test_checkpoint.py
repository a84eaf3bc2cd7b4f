"""Checkpoints: exact text, one spelling, and only the log itself can sign for the log."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soar.errors import JournalError
from soar.journal.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from soar.journal.merkle import EMPTY_ROOT, leaf_hash, root_of
from soar.journal.note import Signer, Verifier, sign_note

TESSERA_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
TESSERA_ENTRIES = b"one two three four five six seven eit nain ten ileven twelf threeten fourten fivten".split()
ROOT = bytes(range(32))
ROOT_TEXT = base64.b64encode(ROOT).decode()
GOOD = Checkpoint("log.example", 12, ROOT)
LOG = Signer("log.example", bytes(32))
WITNESS = Signer("witness.example", bytes([1] * 32))


def test_the_text_of_a_checkpoint() -> None:
    assert GOOD.to_text() == f"log.example\n12\n{ROOT_TEXT}\n"
    assert Checkpoint("log.example", 0, EMPTY_ROOT).to_text() == (
        "log.example\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    )


@given(size=st.integers(1, 2**63 - 1), root=st.binary(min_size=32, max_size=32))
def test_a_checkpoint_reads_its_own_text(size: int, root: bytes) -> None:
    checkpoint = Checkpoint("log.example", size, root)
    assert Checkpoint.from_text(checkpoint.to_text()) == checkpoint
    assert open_checkpoint(sign_checkpoint(checkpoint, LOG), [LOG.verifier]) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"log.example\n12\n{ROOT_TEXT}",
        f"log.example\n12\n{ROOT_TEXT}\nextension\n",
        f"log.example\n12\n{ROOT_TEXT}\n\n",
        f"\n12\n{ROOT_TEXT}\n",
        f"log.example\n012\n{ROOT_TEXT}\n",
        f"log.example\n+12\n{ROOT_TEXT}\n",
        f"log.example\n-12\n{ROOT_TEXT}\n",
        f"log.example\n 12\n{ROOT_TEXT}\n",
        f"log.example\n1_2\n{ROOT_TEXT}\n",
        f"log.example\n\u0661\n{ROOT_TEXT}\n",  # a digit, but not one of ours
        f"log.example\n\n{ROOT_TEXT}\n",
        f"log.example\n{2**63}\n{ROOT_TEXT}\n",
        f"log.example\n{'9' * 5000}\n{ROOT_TEXT}\n",
        f"log.example\n0\n{ROOT_TEXT}\n",  # an empty log has one root only
        f"log.example\n12\n{ROOT_TEXT[:-1]}\n",
        f"log.example\n12\n {ROOT_TEXT}\n",
        f"log.example\n12\n{ROOT_TEXT.replace('8=', '9=')}\n",  # the same bytes, spelt another way
        f"log.example\n12\n{base64.b64encode(ROOT[:31]).decode()}\n",
        f"log.example\n12\n{base64.b64encode(ROOT + ROOT).decode()}\n",
        f"log.example\n12\n{ROOT.hex()}\n",
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(JournalError):
        Checkpoint.from_text(text)


def test_only_a_key_of_the_logs_own_name_signs_for_it() -> None:
    with pytest.raises(JournalError, match=r"'witness\.example' cannot sign for the log 'log\.example'"):
        sign_checkpoint(GOOD, WITNESS)
    alone = sign_note(GOOD.to_text(), WITNESS)
    with pytest.raises(JournalError, match="not signed by a known key of that name"):
        open_checkpoint(alone, [LOG.verifier, WITNESS.verifier])
    both = sign_note(GOOD.to_text(), LOG, WITNESS)
    assert open_checkpoint(both, [LOG.verifier, WITNESS.verifier]) == GOOD


def test_checkpoints_of_a_published_log(shared_data: Path) -> None:
    """Signature and root of each, recomputed from the log's entries (transparency-dev/tessera)."""
    folder = shared_data / "vectors/tessera-log/log"
    verifier = Verifier.from_text(TESSERA_KEY)
    for size in range(16):
        checkpoint = open_checkpoint((folder / f"checkpoint.{size}").read_text(), [verifier])
        root = root_of(map(leaf_hash, TESSERA_ENTRIES[:size]))
        assert checkpoint == Checkpoint("example.com/log/testdata", size, root)
