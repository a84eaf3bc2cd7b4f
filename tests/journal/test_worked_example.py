"""The page about the journal is true: its worked example runs, and its bytes are those that soar writes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.leaf import seal
from soar.journal.merkle import Frontier
from soar.journal.note import Signer
from soar.model.entry import Entry, EntryType

PAGE = Path(__file__).parents[2] / "docs" / "journal.md"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def test_the_worked_example_runs_and_is_what_soar_writes(example: str) -> None:
    names = run(example)
    created = Entry(
        id="entry-1",
        type=EntryType.RUN_CREATED,
        at=AT,
        actor="soar",
        run_id="run-1",
        subject="run-1",
        data={"playbook": "isolate-host"},
        payload={"vars": {"host": "pc-7"}},
    )
    finished = Entry(
        id="entry-2",
        type=EntryType.RUN_FINISHED,
        at=AT.replace(second=6),
        actor="worker:a",
        run_id="run-1",
        subject="run-1",
        data={"state": "denied"},
    )
    first = seal(created, run_seq=0, run_prev="", salt_source=lambda count: bytes(range(count)))
    second = seal(finished, run_seq=1, run_prev=first.leaf_hash.hex())
    assert names["leaves"] == [first.leaf, second.leaf]
    assert (names["salt"], names["payload"]) == (first.salt, first.payload)
    signer = Signer("soar.example.com", bytes(range(32)))
    root = Frontier().extend([first.leaf_hash, second.leaf_hash]).root()
    assert names["checkpoint"] == sign_checkpoint(Checkpoint("soar.example.com", 2, root), signer)
    assert names["verifier_key"] == str(signer.verifier)


@pytest.mark.parametrize(
    ("honest", "forged"), [("pc-7", "pc-8"), ("denied", "failed"), ("isolate-host", "isolate-file")]
)
def test_the_worked_example_notices_a_change(example: str, honest: str, forged: str) -> None:
    with pytest.raises(AssertionError):
        run(example.replace(honest, forged))


def test_the_worked_example_notices_a_false_signature(example: str) -> None:
    with pytest.raises(InvalidSignature):
        run(example.replace("KC9GAziqu7dg", "KC9GAziqu7dh"))
