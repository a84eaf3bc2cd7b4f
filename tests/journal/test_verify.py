"""Verification of a whole log: a clean one raises no alarm, and each kind of tampering is named with its place.

The log under test has 2,000 entries: runs of 20 entries, five at a time interleaved, an entry of no run before each
round. Checkpoints stand at every hundred entries up to 1,900, so that the last hundred are exposed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.leaf import parse_leaf, seal
from soar.journal.merkle import EMPTY_ROOT, Frontier, leaf_hash
from soar.journal.note import Signer
from soar.journal.verify import PROBLEMS_MAX, LogCheck, Report, StoredEntry, verify_log
from soar.model.base import canonical
from soar.model.entry import Entry, EntryType

SIZE = 2000
COVERED = 1900
START = datetime(2026, 1, 1, tzinfo=UTC)
LOG = Signer("log.example", bytes(32))
STRANGER = Signer("log.example", bytes([1] * 32))


@dataclass(frozen=True)
class Log:
    """What a store would hand over."""

    entries: tuple[StoredEntry, ...]
    checkpoints: tuple[str, ...]
    frontier: Frontier

    def verify(self) -> Report:
        return verify_log(
            self.entries,
            self.checkpoints,
            origin="log.example",
            verifiers=[LOG.verifier],
            tree_size=self.frontier.size,
            frontier=self.frontier,
        )

    def with_entries(self, entries: Iterable[StoredEntry]) -> Log:
        return replace(self, entries=tuple(entries))

    def changed(self, index: int, **changes: Any) -> Log:
        entries = list(self.entries)
        entries[index] = replace(entries[index], **changes)
        return self.with_entries(entries)


def facts() -> Iterator[Entry]:
    """Entries in log order; every third has no payload."""
    for number in range(SIZE):
        lane, round_number = number % 6, number // 6
        run = f"run-{lane}-{round_number // 20}" if lane else None
        yield Entry(
            id=f"entry-{number}",
            type=EntryType.STEP_FINISHED if run else EntryType.ALERT_ADMITTED,
            at=START + timedelta(seconds=number),
            actor="worker:a",
            run_id=run,
            subject=run or f"alert-{round_number}",
            data={"number": number, "text": "é", "last": False},
            payload={"host": f"pc-{number}"} if number % 3 else None,
        )


def sealed(entries: Iterable[Entry], first_index: int = 0) -> tuple[StoredEntry, ...]:
    chains: dict[str, tuple[int, str]] = {}
    rows = []
    for index, entry in enumerate(entries, start=first_index):
        sequence, previous = chains.get(entry.run_id or "", (0, ""))
        leaf, hashed, salt, payload = seal(
            entry, run_seq=sequence, run_prev=previous, salt_source=lambda count, index=index: index.to_bytes(count)
        )
        if entry.run_id:
            chains[entry.run_id] = (sequence + 1, hashed.hex())
        copies = {"id": entry.id, "type": str(entry.type), "run": entry.run_id}
        rows.append(StoredEntry(index=index, leaf=leaf, leaf_hash=hashed, salt=salt, payload=payload, copies=copies))
    return tuple(rows)


def frontier_of(entries: Sequence[StoredEntry]) -> Frontier:
    return Frontier().extend(leaf_hash(each.leaf) for each in entries)


def signed(entries: Sequence[StoredEntry], size: int, signer: Signer = LOG) -> str:
    return sign_checkpoint(Checkpoint("log.example", size, frontier_of(entries[:size]).root()), signer)


def renumbered(entries: Iterable[StoredEntry]) -> Iterator[StoredEntry]:
    return (replace(each, index=index) for index, each in enumerate(entries))


@pytest.fixture(scope="module")
def clean() -> Log:
    entries = sealed(facts())
    return Log(entries, tuple(signed(entries, size) for size in range(0, COVERED + 1, 100)), frontier_of(entries))


def found(report: Report, index: int, *said: str) -> None:
    """The first bad entry is `index`, and the first problem says so in these words."""
    assert not report.ok
    assert report.first_bad == index, report.problems
    for words in said:
        assert words in report.problems[0].message


def test_a_clean_log_raises_no_alarm(clean: Log) -> None:
    report = clean.verify()
    assert report.ok
    assert report.problems == ()
    assert report.first_bad is None
    assert (report.entries, report.checkpoints, report.covered, report.exposed) == (SIZE, 20, COVERED, 100)
    assert (report.size, report.root) == (SIZE, clean.frontier.root())


def test_an_empty_log_is_clean() -> None:
    report = Log((), (sign_checkpoint(Checkpoint("log.example", 0, EMPTY_ROOT), LOG),), Frontier()).verify()
    assert report.ok
    assert (report.entries, report.checkpoints, report.root) == (0, 1, EMPTY_ROOT)


def test_entries_may_arrive_one_by_one(clean: Log) -> None:
    check = LogCheck(iter(clean.checkpoints), origin="log.example", verifiers=iter([LOG.verifier]))
    for entry in clean.entries:
        check.take(entry)
    assert check.finish() == clean.verify()


def test_without_checkpoints_every_entry_is_exposed(clean: Log) -> None:
    report = replace(clean, checkpoints=()).verify()
    assert report.ok
    assert (report.covered, report.exposed) == (0, SIZE)


@settings(max_examples=60)
@given(index=st.integers(0, SIZE - 1), bit=st.integers(0, 100_000))
def test_any_flipped_bit_of_a_leaf_is_found_where_it_is(clean: Log, index: int, bit: int) -> None:
    leaf = bytearray(clean.entries[index].leaf)
    leaf[bit // 8 % len(leaf)] ^= 1 << bit % 8
    found(clean.changed(index, leaf=bytes(leaf)).verify(), index, f"entry {index}")


def spoil_leaf(field: str, value: Any) -> Callable[[StoredEntry], dict[str, Any]]:
    """Change one field of the leaf and forge the stored hash with it."""

    def change(entry: StoredEntry) -> dict[str, Any]:
        leaf = canonical(parse_leaf(entry.leaf) | {field: value})
        return {"leaf": leaf, "leaf_hash": leaf_hash(leaf), "copies": {}}

    return change


FIELDS: dict[str, Callable[[StoredEntry], dict[str, Any]]] = {
    "leaf hash": lambda _: {"leaf_hash": bytes(32)},
    "leaf hash of the wrong length": lambda entry: {"leaf_hash": entry.leaf_hash[:31] if entry.leaf_hash else b""},
    "leaf hash of another type": lambda _: {"leaf_hash": "text"},
    "leaf gone": lambda _: {"leaf": b""},
    "leaf of another type": lambda _: {"leaf": None},
    "leaf too large": lambda _: {"leaf": b"x" * 70_000},
    "salt": lambda _: {"salt": bytes([9] * 32)},
    "salt of the wrong length": lambda _: {"salt": b"x"},
    "salt of another type": lambda _: {"salt": "x" * 32},
    "salt gone": lambda _: {"salt": None},
    "payload": lambda _: {"payload": b"{}"},
    "payload of another type": lambda entry: {"payload": str(entry.payload)},
    "payload gone": lambda _: {"payload": None},
    "payload and salt gone": lambda _: {"payload": None, "salt": None},
    "payload called erased": lambda _: {"payload_erased": True},
    "payload erased, salt kept": lambda _: {"payload_erased": True, "payload": None},
    "copied id": lambda entry: {"copies": {**entry.copies, "id": "entry-x"}},
    "copied run": lambda entry: {"copies": {**entry.copies, "run": None}},
    "run": spoil_leaf("run", "run-other"),
    "run_seq": spoil_leaf("run_seq", 7),
    "run_prev": spoil_leaf("run_prev", "00" * 32),
    "version": spoil_leaf("v", 2),
    "payload commitment": spoil_leaf("payload", "00" * 32),
    "unknown field": spoil_leaf("extra", "x"),
}


@pytest.mark.parametrize("index", [127, 1999], ids=["covered", "exposed"])
@pytest.mark.parametrize("change", FIELDS.values(), ids=FIELDS.keys())
def test_each_field_that_is_tampered_with_is_found_where_it_is(
    clean: Log, index: int, change: Callable[[StoredEntry], dict[str, Any]]
) -> None:
    assert clean.entries[index].payload
    found(clean.changed(index, **change(clean.entries[index])).verify(), index, f"entry {index}")


def test_a_payload_beside_a_leaf_that_names_none(clean: Log) -> None:
    found(clean.changed(600, salt=bytes(32), payload=b"{}").verify(), 600, "does not name")
    found(clean.changed(600, payload_erased=True).verify(), 600, "does not name")


def test_two_payloads_swapped(clean: Log) -> None:
    first, second = clean.entries[10], clean.entries[11]
    swapped = clean.changed(10, salt=second.salt, payload=second.payload)
    swapped = swapped.changed(11, salt=first.salt, payload=first.payload)
    found(swapped.verify(), 10, "not the one that was recorded")


def test_an_erased_payload_is_no_alarm(clean: Log) -> None:
    """Personal data can be destroyed without breaking a single proof."""
    report = clean.changed(10, salt=None, payload=None, payload_erased=True).verify()
    assert report.ok
    assert report.erased == 1
    assert report.covered == COVERED


def test_deleted_entry(clean: Log) -> None:
    entries = clean.entries[:150] + clean.entries[151:]
    found(clean.with_entries(entries).verify(), 150, "entries 150 to 150 are missing")


def test_deleted_entry_with_the_rest_renumbered(clean: Log) -> None:
    """The run's chain shows the hole at the run's next entry, six further on."""
    entries = renumbered(clean.entries[:151] + clean.entries[152:])
    found(clean.with_entries(entries).verify(), 156, "where number")


def test_deleted_entry_of_no_run_with_the_rest_renumbered(clean: Log) -> None:
    """No chain tells of it; the first checkpoint over it does."""
    report = clean.with_entries(renumbered(clean.entries[:150] + clean.entries[151:])).verify()
    found(report, 100, "entries 100 to 199 are not what was signed")
    assert report.covered == 100


def test_deleted_run(clean: Log) -> None:
    """A whole run with its chain taken out."""
    kept = [each for each in clean.entries if parse_leaf(each.leaf).get("run") != "run-3-4"]
    found(clean.with_entries(kept).verify(), 483, "entries 483 to 483 are missing")
    found(clean.with_entries(renumbered(kept)).verify(), 400, "entries 400 to 499 are not what was signed")


def test_swapped_entries_of_one_run(clean: Log) -> None:
    entries = list(clean.entries)
    entries[151], entries[157] = entries[157], entries[151]
    found(clean.with_entries(renumbered(entries)).verify(), 151, "where number 5 was due")
    found(clean.with_entries(entries).verify(), 151, "entries 151 to 156 are missing")


def test_swapped_entries_of_two_runs(clean: Log) -> None:
    """Neither chain is broken; the tree still knows the order."""
    entries = list(clean.entries)
    entries[151], entries[152] = entries[152], entries[151]
    found(clean.with_entries(renumbered(entries)).verify(), 100, "entries 100 to 199 are not what was signed")


def test_inserted_entry(clean: Log) -> None:
    extra = sealed([Entry(id="x", type=EntryType.HALT_SET, at=START, actor="person:x", subject="x")], 150)
    entries = clean.entries[:150] + extra + clean.entries[150:]
    found(clean.with_entries(entries).verify(), 150, "appears twice")
    found(clean.with_entries(renumbered(entries)).verify(), 100, "entries 100 to 199 are not what was signed")


def test_an_entry_twice(clean: Log) -> None:
    entries = clean.entries[:151] + clean.entries[150:]
    report = clean.with_entries(entries).verify()
    found(report, 150, "appears twice")
    assert report.problem_count == 1


def rewritten(change_at: int) -> tuple[StoredEntry, ...]:
    """The log as somebody who owns the database and knows the format would forge it: every chain is consistent."""
    entries = list(facts())
    entries[change_at] = replace(entries[change_at], actor="person:innocent")
    return sealed(entries)


def test_a_consistently_rewritten_log_is_caught_by_its_checkpoint(clean: Log) -> None:
    forged = rewritten(151)
    report = Log(forged, clean.checkpoints, frontier_of(forged)).verify()
    found(report, 100, "entries 100 to 199 are not what was signed")
    assert report.problem_count == 1
    assert (report.checkpoints, report.covered) == (2, 100)


def test_a_rewritten_log_with_forged_checkpoints_is_caught_by_the_key(clean: Log) -> None:
    forged = rewritten(151)
    checkpoints = tuple(signed(forged, size, STRANGER) for size in range(100, 401, 100))
    report = Log(forged, checkpoints, frontier_of(forged)).verify()
    assert report.problem_count == 4
    assert all("no key that we know signed" in each.message for each in report.problems)
    assert report.covered == 0


def test_a_rewritten_exposed_tail_is_caught_by_a_checkpoint_kept_elsewhere(clean: Log) -> None:
    """What no checkpoint covers, only a later checkpoint can vouch for."""
    forged = rewritten(1950)
    log = Log(forged, clean.checkpoints, frontier_of(forged))
    assert log.verify().ok
    log = replace(log, checkpoints=(*clean.checkpoints, signed(clean.entries, SIZE)))
    found(log.verify(), COVERED, "entries 1900 to 1999 are not what was signed")


def test_a_changed_entry_is_named_itself_where_it_shows(clean: Log) -> None:
    """The checkpoint's alarm points at the entry that is known to be bad, not at its whole stretch."""
    report = clean.changed(150, leaf=rewritten(150)[150].leaf).verify()
    found(report, 150, "not those of its stored hash")
    assert {each.index for each in report.problems} == {150}


def test_damage_below_a_good_checkpoint_does_not_draw_later_alarms_to_itself(clean: Log) -> None:
    forged = rewritten(151)
    log = Log(forged, clean.checkpoints, frontier_of(forged)).changed(10, payload=b"{}")
    assert [each.index for each in log.verify().problems] == [10, 100]


def test_a_checkpoint_is_of_its_own_size_only(clean: Log) -> None:
    """Even signed, the root of the 151 entries that are left says nothing about the 200 it speaks of."""
    left = clean.entries[:150] + clean.entries[250:]
    text = sign_checkpoint(Checkpoint("log.example", 200, frontier_of(left[:151]).root()), LOG)
    report = replace(clean, checkpoints=(text,)).with_entries(left).verify()
    found(report, 150, "entries 150 to 249 are missing")
    assert (report.checkpoints, report.covered) == (0, 0)


def test_truncated_log(clean: Log) -> None:
    report = clean.with_entries(clean.entries[:1650]).verify()
    found(report, 1650, "entries 1650 to 1899 are missing", "signed over 1900 entries")
    assert report.covered == 1600


def test_truncated_exposed_tail(clean: Log) -> None:
    """No checkpoint covers it, but the store's own frontier remembers."""
    found(clean.with_entries(clean.entries[:1950]).verify(), 1950, "the tree claims 2000 entries, the log ends at 1950")


def test_log_that_begins_late(clean: Log) -> None:
    found(clean.with_entries(clean.entries[5:]).verify(), 0, "entries 0 to 4 are missing")


def test_stored_frontier_of_another_tree(clean: Log) -> None:
    other = frontier_of(rewritten(1950))
    report = replace(clean, frontier=other).verify()
    found(report, COVERED, "the stored frontier has size 2000")
    assert report.problem_count == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "checkpoint 2: not a signed note"),
        (sign_checkpoint(Checkpoint("log.example", 150, bytes(32)), STRANGER), "checkpoint 2: no key that we know"),
        (sign_checkpoint(Checkpoint("log.example", 50, bytes(32)), LOG), "(size 50) comes after one of size 100"),
    ],
)
def test_a_checkpoint_that_is_none_is_named(clean: Log, text: str, said: str) -> None:
    log = replace(clean, checkpoints=(clean.checkpoints[1], text, *clean.checkpoints[2:]))
    report = log.verify()
    assert [each.index for each in report.problems] == [None]
    assert said in str(report.problems[0])
    assert report.first_bad is None
    assert report.covered == COVERED


def test_a_checkpoint_of_another_log_is_named(clean: Log) -> None:
    other = Signer("other.example", bytes(32))
    text = sign_checkpoint(Checkpoint("other.example", SIZE, clean.frontier.root()), other)
    report = verify_log(clean.entries, [text], origin="log.example", verifiers=[LOG.verifier, other.verifier])
    assert "is of the log 'other.example', not 'log.example'" in str(report.problems[0])
    assert report.covered == 0


def test_a_good_checkpoint_with_a_flipped_root_bit_is_no_checkpoint(clean: Log) -> None:
    root = bytearray(clean.frontier.root())
    root[0] ^= 1
    text = sign_checkpoint(Checkpoint("log.example", SIZE, bytes(root)), LOG)
    log = replace(clean, checkpoints=(*clean.checkpoints, text))
    found(log.verify(), COVERED, "entries 1900 to 1999 are not what was signed")


def test_the_report_stays_small_and_counts_all(clean: Log) -> None:
    """A thousand problems: the lowest are named, in order, whatever was found first."""
    bad_checkpoints = ("",) * 100
    entries = [replace(each, salt=None) if each.index >= 1000 else each for each in clean.entries]
    report = replace(clean, checkpoints=(*bad_checkpoints, *clean.checkpoints)).with_entries(entries).verify()
    assert len(report.problems) == PROBLEMS_MAX
    assert report.problem_count > 700
    assert report.first_bad == 1000
    indexes = [each.index for each in report.problems if each.index is not None]
    assert indexes == sorted(indexes)
    assert len(indexes) == PROBLEMS_MAX
