"""A restored backup is told from a journal that grew, and a new log says which one it continues."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soar.errors import JournalError
from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.leaf import LEAF_VERSION, parse_leaf
from soar.journal.merkle import consistency_proof, leaf_hash, nodes_of, root_of
from soar.journal.note import Signer
from soar.journal.standing import CONTINUED, Continuation, Standing, compare, continued, continues, root_at
from soar.journal.witness import Submission, judge
from soar.model.base import canonical

from .logs import LOG, ORIGIN, STRANGER, WITNESSED, WITNESSES, Log, make_log

SIZE = 300
RENAMED = Signer("log.example/second", bytes([7] * 32))


@pytest.fixture(scope="module")
def log() -> Log:
    return make_log(SIZE)


@pytest.fixture(scope="module")
def forked(log: Log) -> list[bytes]:
    """The hashes of a journal that a backup of 200 entries went on with."""
    return [*log.hashes[:200], *(leaf_hash(b"%d" % number) for number in range(200, SIZE))]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 127, 128, 129, 200, SIZE])
def test_the_root_that_a_tree_had(log: Log, size: int) -> None:
    assert root_at(size, log.nodes()) == root_of(log.hashes[:size])


@pytest.mark.parametrize("kept", [0, 1, 200, 299, SIZE])
def test_a_journal_that_grew_is_well(log: Log, kept: int) -> None:
    found = compare(log.checkpoint(kept), size=SIZE, nodes=log.nodes())
    assert (found.standing, found.message) == (Standing.OK, "")


@pytest.mark.parametrize("size", [0, 1, 200, 299])
def test_a_restored_backup_is_behind(log: Log, size: int) -> None:
    found = compare(log.checkpoint(), size=size, nodes=nodes_of(log.hashes[:size]))
    assert found.standing is Standing.BEHIND
    for words in (ORIGIN, f"entries {size} to 299 are gone", "Nothing will be signed", "journal.origin"):
        assert words in found.message


@pytest.mark.parametrize("kept", [201, 256, SIZE])
def test_a_backup_that_went_on_is_a_fork(log: Log, forked: list[bytes], kept: int) -> None:
    found = compare(log.checkpoint(kept), size=SIZE, nodes=nodes_of(forked))
    assert found.standing is Standing.FORK
    for words in (f"does not begin with the {kept} entries", "soar audit verify", "journal.origin"):
        assert words in found.message


def test_what_both_have_in_common_is_no_fork(log: Log, forked: list[bytes]) -> None:
    """So the checkpoint to compare with is the largest one that others have."""
    assert compare(log.checkpoint(200), size=SIZE, nodes=nodes_of(forked)).standing is Standing.OK


def entry(kind: str, data: dict[str, str | int | bool]) -> dict[str, object]:
    envelope = {"v": LEAF_VERSION, "id": "e", "type": kind, "at": "2026-01-01T00:00:00.000000Z", "actor": "soar"}
    return parse_leaf(canonical({**envelope, "subject": ORIGIN, "data": data}))


def told(note: str) -> dict[str, str | int | bool]:
    return continued(note, old=LOG.verifier, new=RENAMED.verifier)


def test_a_new_name_names_the_checkpoint_that_it_continues(log: Log) -> None:
    """It fits a leaf with three witnesses' signatures, and is judged by the reader's own policy."""
    note = log.signed(witnesses=WITNESSES)
    found = continues(entry(CONTINUED, told(note)), index=210, kept=200)
    assert found == Continuation(210, LOG.verifier, RENAMED.verifier, log.checkpoint(), 200)
    assert WITNESSED.open(note).checkpoint == found.lost
    assert "entries 200 to 299 that were published under that name are lost" in str(found)


def test_other_entries_continue_nothing(log: Log) -> None:
    assert continues(entry("halt.set", told(log.signed())), index=0, kept=0) is None


@pytest.mark.parametrize(
    "change", [{"size": 5}, {"origin": "x"}, {"root": "00"}, {"checkpoint": ""}, {"more": 1}, {"old": ""}, {"new": "x"}]
)
def test_an_entry_that_contradicts_its_checkpoint_is_refused(log: Log, change: dict[str, str | int | bool]) -> None:
    with pytest.raises(JournalError):
        continues(entry(CONTINUED, {**told(log.signed()), **change}), index=0, kept=0)


def test_nothing_is_continued_under_its_own_name_or_by_a_stranger_s_checkpoint(log: Log) -> None:
    with pytest.raises(JournalError, match="has another name"):
        continued(log.signed(), old=LOG.verifier, new=STRANGER.verifier)
    with pytest.raises(JournalError, match="no key that we know signed"):
        continued(log.signed(signer=STRANGER), old=LOG.verifier, new=RENAMED.verifier)


@settings(max_examples=50, deadline=None)
@given(kept=st.integers(1, SIZE), seen=st.integers(1, SIZE), grown=st.integers(1, SIZE))
def test_whoever_restores_and_signs_anew_is_found_out_by_a_witness(log: Log, kept: int, seen: int, grown: int) -> None:
    """Also with the key: `kept` of `seen` witnessed entries are left, then `grown` other ones are added."""
    kept = min(kept, seen - 1)
    other = [*log.hashes[:kept], *(leaf_hash(b"other %d" % n) for n in range(grown))]
    note = sign_checkpoint(Checkpoint(ORIGIN, len(other), root_of(other)), LOG)
    witnessed = log.checkpoint(seen)
    for old in {0, min(kept, len(other)), min(seen, len(other))}:
        proof = consistency_proof(old, len(other), nodes_of(other)) if 0 < old < len(other) else []
        submission = Submission(old, tuple(proof), note).to_bytes()
        answer = judge(submission, logs={ORIGIN: [LOG.verifier]}, latest=lambda _: witnessed, cosigner=WITNESSES[0])
        assert answer.status in {409, 422}
        assert answer.keep is None
