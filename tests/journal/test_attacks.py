"""A thousand rows under attack: every field, every byte position, every kind of rearrangement is found, and where.

Changes are made to what the store holds. What an attacker can do to an exported folder is in test_export.py.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soar.journal.leaf import parse_leaf
from soar.journal.merkle import leaf_hash
from soar.journal.verify import LogCheck, Report, StoredEntry, verify_log
from soar.model.base import canonical

from .logs import LOG, ORIGIN, Log, make_log

SIZE = 1000
FIELDS = ("leaf", "leaf_hash", "salt", "payload")


@pytest.fixture(scope="module")
def log() -> Log:
    return make_log(SIZE)


@pytest.fixture(scope="module")
def checkpoints(log: Log) -> list[str]:
    return [log.signed(size) for size in range(100, SIZE + 1, 100)]


def changed(entry: StoredEntry) -> Iterator[tuple[str, StoredEntry]]:
    """The entry with one byte changed, once for each byte of each of its fields."""
    for field in FIELDS:
        raw = getattr(entry, field) or b""
        for at in range(len(raw)):
            spoilt = bytearray(raw)
            spoilt[at] ^= 1 << at % 8
            yield f"{field}[{at}]", replace(entry, **{field: bytes(spoilt)})
    for name, value in entry.copies.items():
        for at in range(len(str(value or ""))):
            text = str(value)
            spoilt_text = f"{text[:at]}{chr(ord(text[at]) ^ 1)}{text[at + 1 :]}"
            yield f"{name}[{at}]", replace(entry, copies={**entry.copies, name: spoilt_text})
    for bit in range(16):
        yield f"index^{1 << bit}", replace(entry, index=entry.index ^ 1 << bit)


def fork(check: LogCheck) -> LogCheck:
    """A check that has seen the same entries, for one more."""
    other = LogCheck((), origin=ORIGIN, verifiers=[LOG.verifier])
    other._chains = ChainMap({}, check._chains)
    other._frontier, other._expected = check._frontier, check._expected
    return other


def test_any_changed_byte_of_any_field_of_any_row_is_found_in_its_row(log: Log) -> None:
    check = LogCheck((), origin=ORIGIN, verifiers=[LOG.verifier])
    for entry in log.entries:
        for what, spoilt in changed(entry):
            probe = fork(check)
            probe.take(spoilt)
            first_bad = probe.finish().first_bad
            assert first_bad is not None, (entry.index, what)
            assert first_bad <= entry.index, (entry.index, what)
        check.take(entry)
    assert check.finish().ok


def verified(entries: list[StoredEntry], checkpoints: list[str]) -> Report:
    return verify_log(entries, checkpoints, origin=ORIGIN, verifiers=[LOG.verifier], tree_size=SIZE)


places = st.integers(0, SIZE - 1)
renumbering = st.booleans()


def arranged(entries: list[StoredEntry], *, renumbered: bool) -> list[StoredEntry]:
    return [replace(each, index=index) for index, each in enumerate(entries)] if renumbered else entries


@given(at=places, renumbered=renumbering)
@settings(max_examples=60)
def test_any_deleted_row_is_found(log: Log, checkpoints: list[str], at: int, renumbered: bool) -> None:
    entries = arranged([*log.entries[:at], *log.entries[at + 1 :]], renumbered=renumbered)
    report = verified(entries, checkpoints)
    assert report.first_bad is not None
    # Renumbered, the hole shows at the run's next entry, or as the stretch of a hundred under the next checkpoint; in
    # the last stretch, where its run has no further entry, as a log that is one short of its checkpoint.
    assert report.first_bad == at or renumbered
    one_short = renumbered and at >= SIZE - 100 and report.first_bad == SIZE - 1
    assert at // 100 * 100 <= report.first_bad <= at + 6 or at + 6 >= SIZE or one_short


@given(first=places, second=places, renumbered=renumbering)
@settings(max_examples=60)
def test_any_two_swapped_rows_are_found(
    log: Log, checkpoints: list[str], first: int, second: int, renumbered: bool
) -> None:
    if first == second:
        return
    entries = list(log.entries)
    entries[first], entries[second] = entries[second], entries[first]
    report = verified(arranged(entries, renumbered=renumbered), checkpoints)
    assert report.first_bad is not None
    assert report.first_bad <= max(first, second)


@given(at=places, source=places, renumbered=renumbering)
@settings(max_examples=60)
def test_any_inserted_row_is_found(log: Log, checkpoints: list[str], at: int, source: int, renumbered: bool) -> None:
    extra = replace(log.entries[source], index=at)
    entries = arranged([*log.entries[:at], extra, *log.entries[at:]], renumbered=renumbered)
    report = verified(entries, checkpoints)
    assert report.first_bad is not None
    assert report.first_bad <= max(at, source) + 1


def rechained(log: Log, at: int, actor: str) -> list[StoredEntry]:
    """The log with one entry rewritten, and every later one of its run linked to it anew, all hashes recomputed."""
    entries = list(log.entries)
    run = entries[at].copies["run"]
    previous: str | None = None
    for index in range(at, SIZE):
        if index != at and (run is None or entries[index].copies["run"] != run):
            continue
        fields: dict[str, Any] = parse_leaf(entries[index].leaf)
        if index == at:
            fields["actor"] = actor
        else:
            fields["run_prev"] = previous
        leaf = canonical(fields)
        previous = leaf_hash(leaf).hex()
        entries[index] = replace(entries[index], leaf=leaf, leaf_hash=leaf_hash(leaf))
    return entries


@given(at=places)
@settings(max_examples=30)
def test_any_rewritten_row_is_found_however_well_it_is_chained(log: Log, checkpoints: list[str], at: int) -> None:
    """Nothing but the signed root tells, so the finding names the stretch under the first checkpoint over it."""
    report = verified(rechained(log, at, "person:innocent"), checkpoints)
    assert report.first_bad == at // 100 * 100
    assert report.covered == at // 100 * 100


def test_an_untouched_log_raises_no_alarm(log: Log, checkpoints: list[str]) -> None:
    assert verified(list(log.entries), checkpoints).ok
    assert verified(rechained(log, 500, "worker:a"), checkpoints).ok
