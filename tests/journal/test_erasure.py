"""A payload may be gone if a later entry accounts for it, and only then."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from soar.journal.leaf import seal
from soar.journal.verify import LogCheck, StoredEntry
from soar.model.entry import Entry, EntryType

AT = datetime(2026, 1, 1, tzinfo=UTC)


def stored(index: int, kind: EntryType, subject: str, payload: dict[str, str] | None = None) -> StoredEntry:
    entry = Entry(id=f"entry-{index}", type=kind, at=AT, actor="soar", subject=subject, payload=payload)
    sealed = seal(entry, run_seq=0, run_prev="")
    return StoredEntry(index=index, leaf=sealed.leaf, salt=sealed.salt, payload=sealed.payload)


def gone(entry: StoredEntry) -> StoredEntry:
    return replace(entry, salt=None, payload=None)


TOLD = stored(0, EntryType.HALT_SET, "halt", {"reason": "frodo"})
ERASED = stored(1, EntryType.PAYLOAD_ERASED, "entry-0", {"reason": "request 4711"})


def check(*entries: StoredEntry) -> LogCheck:
    begun = LogCheck((), origin="x/y", verifiers=())
    for entry in entries:
        begun.take(entry)
    return begun


def test_an_erasure_accounts_for_the_payload_that_is_gone() -> None:
    report = check(gone(TOLD), ERASED).finish()
    assert report.ok
    assert report.erased == 1


def test_a_payload_that_is_gone_without_a_word_is_found_in_its_entry() -> None:
    report = check(gone(TOLD), replace(stored(1, EntryType.PAYLOAD_ERASED, "entry-7"), index=1)).finish()
    assert report.first_bad == 0
    assert "entry-0): its payload is missing" in report.problems[0].message


def test_the_reason_of_an_erasure_may_not_be_gone_either() -> None:
    assert check(gone(TOLD), gone(ERASED)).finish().first_bad == 1


def test_a_salt_that_stayed_is_found() -> None:
    """With it, what was erased could be guessed."""
    assert check(replace(TOLD, payload=None), ERASED).finish().first_bad == 0


def test_what_is_erased_while_the_log_is_read_is_told_beyond_its_end() -> None:
    begun = check(gone(TOLD))
    begun.take_later(ERASED)
    report = begun.finish()
    assert report.ok
    assert report.entries == 1
