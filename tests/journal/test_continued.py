"""A log that took a new name: followed from either key, and only where the old key agreed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from soar.errors import JournalError
from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.leaf import seal
from soar.journal.merkle import nodes_of, root_of
from soar.journal.note import Signer
from soar.journal.proof import EntryProof, prove_entry
from soar.journal.rotation import first_key, follow, handover, sign_handover
from soar.journal.standing import continued
from soar.journal.verify import Report, StoredEntry, verify_log
from soar.model.entry import Entry, EntryType

from .logs import LOG, ORIGIN, START, STRANGER, make_log

KEPT, LOST, SIZE = 60, 90, 80
NEW = Signer("log.example/second", bytes([7] * 32))
THIRD = Signer("log.example/second", bytes([8] * 32))
PUBLISHED = make_log(LOST)


def entry(index: int, kind: EntryType, data: dict[str, str | int | bool]) -> StoredEntry:
    fact = Entry(id=f"told-{index}", type=kind, at=START, actor="person:a", subject=NEW.name, data=data)
    sealed = seal(fact, run_seq=0, run_prev="")
    return StoredEntry(index=index, leaf=sealed.leaf, leaf_hash=sealed.leaf_hash)


@dataclass(frozen=True)
class Restored:
    """The entries of a backup, then the continuation, then a rotation under the new name."""

    entries: tuple[StoredEntry, ...]

    @property
    def hashes(self) -> list[bytes]:
        return [each.leaf_hash or b"" for each in self.entries]

    def checkpoint(self, size: int, name: str = NEW.name) -> Checkpoint:
        return Checkpoint(name, size, root_of(self.hashes[:size]))

    def verify(self, *notes: str, key: Signer = LOG) -> Report:
        return verify_log(self.entries, [OLD, *notes], origin=key.name, verifiers=[key.verifier])


DATA = continued(PUBLISHED.signed(), old=LOG.verifier, new=NEW.verifier)
RESTORED = Restored(
    (
        *PUBLISHED.entries[:KEPT],
        entry(KEPT, EntryType.JOURNAL_CONTINUED, DATA),
        *(entry(index, EntryType.HALT_SET, {}) for index in range(KEPT + 1, SIZE - 1)),
        entry(SIZE - 1, EntryType.JOURNAL_KEY_ROTATED, handover(NEW.verifier, THIRD.verifier)),
    )
)
OLD = PUBLISHED.signed(KEPT)
BOTH = sign_handover(RESTORED.checkpoint(KEPT + 1), old=LOG, new=NEW)
LATER = sign_checkpoint(RESTORED.checkpoint(KEPT + 10), NEW)
ROTATED = sign_handover(RESTORED.checkpoint(SIZE), old=NEW, new=THIRD)


def test_it_is_followed_and_told() -> None:
    report = RESTORED.verify(BOTH, LATER, ROTATED)
    assert report.ok, report.problems
    assert (report.checkpoints, report.covered) == (4, SIZE)
    (told,) = report.continued
    assert (told.index, told.kept, told.lost.size, told.new) == (KEPT, KEPT, LOST, NEW.verifier)
    assert f"entries {KEPT} to {LOST - 1} that were published under that name are lost" in str(told)


def test_the_first_key_is_found_from_any_that_followed() -> None:
    leaves = [RESTORED.entries[-1].leaf, RESTORED.entries[KEPT].leaf]  # in any order
    for key in (LOG, NEW, THIRD):
        assert first_key(leaves, key.verifier) == LOG.verifier
    assert first_key(leaves, STRANGER.verifier) == STRANGER.verifier


def test_keys_that_hand_over_in_a_circle_end_the_search() -> None:
    there = entry(0, EntryType.JOURNAL_KEY_ROTATED, handover(NEW.verifier, THIRD.verifier))
    back = entry(1, EntryType.JOURNAL_KEY_ROTATED, handover(THIRD.verifier, NEW.verifier))
    assert first_key([there.leaf, back.leaf], NEW.verifier) in {NEW.verifier, THIRD.verifier}


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ([sign_checkpoint(RESTORED.checkpoint(KEPT + 1), NEW)], "no key that we know signed"),
        ([sign_handover(RESTORED.checkpoint(KEPT + 1), old=STRANGER, new=NEW)], "no key that we know signed"),
        ([sign_handover(RESTORED.checkpoint(KEPT + 1), old=LOG, new=THIRD)], "not signed by a known key of that name"),
        ([sign_checkpoint(RESTORED.checkpoint(KEPT, NEW.name), NEW), BOTH], "no key that we know signed"),
        ([BOTH, sign_checkpoint(RESTORED.checkpoint(KEPT + 9, ORIGIN), LOG)], "no key that we know signed"),
        ([BOTH, sign_checkpoint(RESTORED.checkpoint(KEPT + 9, ORIGIN), Signer(ORIGIN, bytes([7] * 32)))], "no key"),
    ],
    ids=[
        "new alone",
        "stranger agreed",
        "another key took over",
        "before it is told",
        "old name after",
        "name swapped",
    ],
)
def test_nobody_takes_a_log_over_by_a_new_name(notes: list[str], said: str) -> None:
    report = RESTORED.verify(*notes)
    assert not report.ok
    assert said in str(report.problems[0])


def test_what_is_tampered_with_behind_the_new_name_is_found_where_it_is() -> None:
    for index in (3, KEPT, KEPT + 5):
        spoilt = list(RESTORED.entries)
        spoilt[index] = replace(spoilt[index], leaf=entry(index, EntryType.HALT_CLEARED, {}).leaf)
        report = verify_log(spoilt, [OLD, BOTH, LATER], origin=ORIGIN, verifiers=[LOG.verifier])
        assert report.first_bad == index


def test_the_proof_of_the_continuation_leads_from_the_old_key_to_the_new() -> None:
    nodes = nodes_of(RESTORED.hashes[: KEPT + 1])

    def proof(note: str) -> EntryProof:
        return prove_entry(KEPT, RESTORED.entries[KEPT].leaf, note=note, nodes=nodes)

    assert follow(proof(BOTH), LOG.verifier) == NEW.verifier
    for note, trusted in (
        (sign_checkpoint(RESTORED.checkpoint(KEPT + 1), NEW), LOG),
        (BOTH, STRANGER),
        (sign_handover(RESTORED.checkpoint(KEPT + 1), old=STRANGER, new=NEW), STRANGER),
    ):
        with pytest.raises(JournalError):
            follow(proof(note), trusted.verifier)
