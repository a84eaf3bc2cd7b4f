"""Payloads that left the store: files that say what they are, and whoever changes one is found out."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from soar.errors import JournalError, StoreUnavailableError
from soar.journal.archive import PAYLOAD_ARCHIVED, ArchiveFile, ArchiveFolder, Kept
from soar.journal.leaf import seal
from soar.journal.verify import StoredEntry
from soar.model.entry import Entry, EntryType

AT = datetime(2026, 1, 1, tzinfo=UTC)


def sealed(number: int) -> StoredEntry:
    entry = Entry(
        id=f"e{number}", type=EntryType.STEP_FINISHED, at=AT, actor="a", subject="s", payload={"number": number}
    )
    leaf, leaf_hash, salt, payload = seal(entry, run_seq=0, run_prev="")
    return StoredEntry(index=number, leaf=leaf, leaf_hash=leaf_hash, salt=salt, payload=payload)


def kept(entry: StoredEntry) -> Kept:
    assert entry.salt is not None
    assert entry.payload is not None
    return Kept(index=entry.index, id=f"e{entry.index}", salt=entry.salt, payload=entry.payload)


def bare(entry: StoredEntry) -> StoredEntry:
    return StoredEntry(index=entry.index, leaf=entry.leaf, leaf_hash=entry.leaf_hash)


def told(file: ArchiveFile, **more: str | int) -> bytes:
    entry = Entry(
        id="t", type=EntryType(PAYLOAD_ARCHIVED), at=AT, actor="a", subject=file.name, data={**file.data, **more}
    )
    return seal(entry, run_seq=0, run_prev="").leaf


@pytest.fixture
def entries() -> list[StoredEntry]:
    return [sealed(number) for number in range(10)]


def test_entries_get_back_exactly_what_they_had(entries: list[StoredEntry], tmp_path: Path) -> None:
    """Also from files whose indexes interleave, as those of payloads that were needed longer, in either order."""
    folder = ArchiveFolder(tmp_path / "archive")
    parts = (entries[0:4], [entries[4], entries[8]], entries[5:8])
    files = [folder.put([kept(each) for each in part]) for part in parts]
    folder = folder.knowing(told(file) for file in files)
    for order in (entries, entries[::-1]):
        reading = folder.reading()
        assert [reading.fill(bare(each)) for each in order[:]] == [
            each if each.index < 9 else bare(each) for each in order
        ]
        assert (reading.filled, reading.away, reading.problems) == (9, 0, [])


def test_the_same_payloads_are_the_same_file(entries: list[StoredEntry], tmp_path: Path) -> None:
    first, again = (ArchiveFolder(tmp_path / name).put([kept(entries[0])]) for name in ("a", "b"))
    assert first == again
    assert (tmp_path / "a" / first.name).read_bytes() == (tmp_path / "b" / again.name).read_bytes()


def test_of_a_file_that_is_not_here_nothing_is_claimed(entries: list[StoredEntry], tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    file = folder.put([kept(each) for each in entries[:3]])
    (tmp_path / "archive" / file.name).unlink()
    reading = folder.knowing([told(file)]).reading()
    assert reading.fill(bare(entries[1])).payload_erased
    assert not reading.fill(bare(entries[5])).payload_erased
    assert (reading.filled, reading.away) == (0, 1)


@pytest.mark.parametrize("damage", [b"", b"rubbish", gzip.compress(b"{}", mtime=0)])
def test_a_file_that_is_another_one_is_a_problem(entries: list[StoredEntry], tmp_path: Path, damage: bytes) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    file = folder.put([kept(entries[0])])
    (tmp_path / "archive" / file.name).write_bytes(damage)
    folder = folder.knowing([told(file)])
    reading = folder.reading()
    reading.fill(bare(entries[0]))
    reading.fill(bare(entries[0]))
    assert reading.problems == [f"archive file {file.name} is not the one that the journal names: its digest differs"]
    with pytest.raises(JournalError, match="its digest differs"):
        folder.read(file)


def test_a_file_that_was_replaced_does_not_count(entries: list[StoredEntry], tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    old = folder.put([kept(each) for each in entries[:3]])
    new = folder.put([kept(each) for each in entries[1:3]])
    folder = folder.knowing([told(old), told(new, replaces=old.name)])
    assert folder.files == (new,)
    assert folder.sweep() == 1
    assert [path.name for path in tmp_path.glob("archive/*.gz")] == [new.name]
    assert folder.knowing([told(old), told(old, payloads=0, replaces=old.name)]).files == ()


def test_a_name_from_elsewhere_reads_nothing(tmp_path: Path) -> None:
    """Names come from leaves, which somebody may have written."""
    (tmp_path / "secret.gz").write_bytes(b"x")
    folder = ArchiveFolder(tmp_path / "archive")
    file = ArchiveFile(name="../secret.gz", sha256="0" * 64, first=0, last=9, payloads=1)
    assert not folder.holds(file)


def test_a_payload_that_is_no_text_stays_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="entry 7 is not text"):
        ArchiveFolder(tmp_path / "archive").put([Kept(index=7, id="e7", salt=bytes(32), payload=b"\xff")])
    assert not (tmp_path / "archive").exists()


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path, entries: list[StoredEntry]) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = ArchiveFolder(tmp_path / "file")
    with pytest.raises(StoreUnavailableError, match="cannot be written"):
        folder.put([kept(entries[0])])
    with pytest.raises(StoreUnavailableError, match="cannot be written"), folder.alone():
        pass


def test_two_cannot_write_at_once(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path / "archive")
    with folder.alone(), pytest.raises(StoreUnavailableError, match="another process"), folder.alone():
        pass
