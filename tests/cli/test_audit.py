"""`soar audit`: whoever changes the journal, however little, is found out, and the command says where."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from soar.engine.audit import verify_store
from soar.journal.leaf import seal
from soar.journal.note import Signer
from soar.model.clock import SystemClock, UlidSource
from soar.model.entry import Entry, EntryType
from soar.service import assemble, read_key
from soar.settings import load_settings

from .study_home import Home, copy_of, first_home

VICTIM = 7


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return first_home(tmp_path_factory.mktemp("audit") / "home")


@pytest.fixture
def home(original: Home, tmp_path: Path) -> Home:
    return copy_of(original, tmp_path / "home")


@contextmanager
def intruder(home: Home) -> Iterator[sqlite3.Connection]:
    """Somebody with write access to the file, who has removed what refuses changes."""
    with closing(sqlite3.connect(home.store)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        yield db
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def flipped(value: bytes | str) -> bytes | str:
    """The value with one bit of its middle byte turned."""
    raw = bytearray(value if isinstance(value, bytes) else value.encode())
    raw[len(raw) // 2] ^= 1
    return bytes(raw) if isinstance(value, bytes) else raw.decode()


def named(db: sqlite3.Connection, index: int) -> tuple[int, str, str]:
    found: tuple[int, str, str] = db.execute("SELECT idx, id, type FROM entries WHERE idx = ?", (index,)).fetchone()
    return found


def test_an_untouched_journal_verifies_and_is_left_as_it_is(home: Home) -> None:
    before = home.store.read_bytes()
    said = home.soar("audit", "verify")
    assert said.code == 0
    assert "the journal verifies" in said.out
    report = home.soar("audit", "verify", "--json").json
    assert report["ok"]
    assert report["checkpoints"] == 2
    assert report["covered"] == report["entries"] > 20
    assert report["findings"] == []
    assert home.store.read_bytes() == before


@pytest.mark.parametrize("column", ["leaf", "leaf_hash", "type", "at"])
def test_one_byte_of_an_entry_names_that_entry(home: Home, column: str) -> None:
    with intruder(home) as db:
        index, entry_id, kind = named(db, VICTIM)
        (value,) = db.execute(f"SELECT {column} FROM entries WHERE idx = ?", (VICTIM,)).fetchone()
        db.execute(f"UPDATE entries SET {column} = ? WHERE idx = ?", (flipped(value), VICTIM))
    said = home.soar("audit", "verify", "--json")
    assert said.code == 1
    bad = said.json["first_bad"]
    assert (bad["index"], bad["id"]) == (index, entry_id)
    assert bad["type"] == (flipped(kind) if column == "type" else kind)
    assert f"the first bad entry is {VICTIM}, {entry_id}" in home.soar("audit", "verify").out


@pytest.mark.parametrize("column", ["salt", "body"])
def test_one_byte_of_a_payload_names_its_entry(home: Home, column: str) -> None:
    with intruder(home) as db:
        row = db.execute("SELECT idx, id, type FROM entries JOIN payloads ON entry_id = id LIMIT 1 OFFSET 3").fetchone()
        (value,) = db.execute(f"SELECT {column} FROM payloads WHERE entry_id = ?", (row[1],)).fetchone()
        db.execute(f"UPDATE payloads SET {column} = ? WHERE entry_id = ?", (flipped(value), row[1]))
    said = home.soar("audit", "verify", "--json")
    assert said.code == 1
    bad = said.json["first_bad"]
    assert (bad["index"], bad["id"], bad["type"]) == row
    assert "its payload is not the one that was recorded" in bad["message"]


def test_one_byte_of_a_checkpoint_is_found_though_every_entry_is_good(home: Home) -> None:
    with intruder(home) as db:
        size, note = db.execute("SELECT size, text FROM checkpoints ORDER BY size LIMIT 1").fetchone()
        cut = note.index("\n\n") + 30  # within the signature's base64
        changed = note[:cut] + ("A" if note[cut] != "A" else "B") + note[cut + 1 :]
        db.execute("UPDATE checkpoints SET text = ? WHERE size = ?", (changed, size))
    said = home.soar("audit", "verify", "--json")
    assert said.code == 1
    assert said.json["first_bad"] is None
    assert said.json["findings"][0]["message"].startswith("checkpoint 1: ")
    assert "no entry is known to be bad" in home.soar("audit", "verify").out


def test_one_byte_of_the_frontier_is_found(home: Home) -> None:
    with intruder(home) as db:
        (frontier,) = db.execute("SELECT frontier FROM tree").fetchone()
        db.execute("UPDATE tree SET frontier = ?", (flipped(frontier),))
    said = home.soar("audit", "verify", "--json")
    assert said.code == 1
    assert said.json["first_bad"] is None
    assert "frontier" in said.json["findings"][0]["message"]


def test_one_byte_in_the_file_itself_names_the_entry(home: Home) -> None:
    with intruder(home) as db:
        (leaf,) = db.execute("SELECT leaf FROM entries WHERE idx = ?", (VICTIM,)).fetchone()
        index, entry_id, kind = named(db, VICTIM)
    data = bytearray(home.store.read_bytes())
    at = data.find(leaf)
    assert at > 0
    data[at + len(leaf) - 3] ^= 1
    home.store.write_bytes(data)
    said = home.soar("audit", "verify", "--json")
    assert said.code == 1
    bad = said.json["first_bad"]
    assert (bad["index"], bad["id"], bad["type"]) == (index, entry_id, kind)


def test_an_entry_rewritten_with_its_hash_contradicts_the_checkpoint(home: Home) -> None:
    clock, ids = SystemClock(), UlidSource()
    forged = Entry(id=ids.new("entry"), type=EntryType.HALT_SET, at=clock.now(), actor="soar", subject="halt")
    sealed = seal(forged, run_seq=0, run_prev="")
    with intruder(home) as db:
        at = sealed.leaf.partition(b'"at":"')[2][:27].decode()
        values = (forged.id, forged.type.value, at, sealed.leaf, sealed.leaf_hash)
        last = db.execute("SELECT max(idx) FROM entries WHERE run_id IS NULL").fetchone()[0]
        db.execute("DELETE FROM payloads WHERE entry_id = (SELECT id FROM entries WHERE idx = ?)", (last,))
        db.execute(f"UPDATE entries SET id = ?, type = ?, at = ?, leaf = ?, leaf_hash = ? WHERE idx = {last}", values)
        signed = [row[0] for row in db.execute("SELECT size FROM checkpoints ORDER BY size")]
    said = home.soar("audit", "verify", "--json")
    assert said.code == 1
    assert said.json["covered"] == signed[0]
    assert said.json["first_bad"]["index"] == signed[0], "the first entry that no good checkpoint stands for"
    assert "are not what was signed" in said.json["first_bad"]["message"]


def test_a_cut_off_end_is_missed(home: Home) -> None:
    with intruder(home) as db:
        (end,) = db.execute("SELECT max(idx) FROM entries").fetchone()
        db.execute("DELETE FROM entries WHERE idx = ?", (end,))
    said = home.soar("audit", "verify", "--json")
    assert said.code == 1
    assert said.json["first_bad"]["index"] == end


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE alerts SET entry_id = 'entry-none' WHERE id = (SELECT min(id) FROM alerts)", "names the entry"),
        ("DELETE FROM runs WHERE id = (SELECT min(id) FROM runs)", "is not among the runs"),
        ("UPDATE runs SET entry_hash = '' WHERE id = (SELECT min(id) FROM runs)", "as the hash of its last entry"),
        ("UPDATE checkpoints SET size = size + 1 WHERE size = (SELECT max(size) FROM checkpoints)", "another size"),
        ("INSERT INTO payloads VALUES ('entry-none', x'00', x'00')", "a payload is kept for the entry entry-none"),
    ],
)
def test_state_that_departs_from_the_journal_is_found(home: Home, change: str, message: str) -> None:
    with intruder(home) as db:
        assert db.execute(change).rowcount == 1
    said = home.soar("audit", "verify")
    assert said.code == 1
    assert message in said.out


def test_a_page_of_rubbish_is_a_finding(home: Home) -> None:
    with intruder(home) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'entries'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    data = bytearray(home.store.read_bytes())
    data[(root - 1) * size : root * size] = b"\xa5" * size
    home.store.write_bytes(data)
    said = home.soar("audit", "verify", "--json")
    assert said.code == 1
    assert "cannot be read any further" in said.json["findings"][0]["message"]
    assert home.soar("audit", "show").code == 4


def test_a_file_that_is_no_database_is_a_finding(home: Home) -> None:
    home.store.write_bytes(b"not a database, but long enough to be looked at" * 20)
    said = home.soar("audit", "verify")
    assert said.code == 1
    assert "file is not a database" in said.out
    assert home.soar("audit", "status").code == 4


def test_no_store_is_said_so(home: Home) -> None:
    home.store.unlink()
    for command in ("verify", "status", "show"):
        said = home.soar("audit", command)
        assert said.code == 2
        assert f"there is no store at {home.store}" in said.err


def test_an_auditor_needs_the_public_key_alone(home: Home) -> None:
    public = read_key(load_settings(home.config)).verifier
    (home.folder / "keys" / "journal.key").unlink()
    assert home.soar("audit", "verify", "--key", public).code == 0
    assert "the journal's key" in home.soar("audit", "verify").err
    assert home.soar("audit", "verify", "--key", "rubbish").code == 2
    stranger = home.soar("audit", "verify", "--json", "--key", Signer.generate("soar.local/journal").verifier)
    assert stranger.code == 1
    assert stranger.json["covered"] == 0


def test_status_says_what_is_signed_and_what_is_exposed(home: Home) -> None:
    before = home.soar("audit", "status", "--json").json
    assert before["exposed"] == 0
    assert before["signed_up_to"].endswith("Z")
    home.admit("third", sign=False)
    after = home.soar("audit", "status", "--json").json
    assert after["checkpoint_size"] == before["size"]
    assert after["exposed"] == after["size"] - before["size"] > 0
    assert f"{after['exposed']} entries after it" in home.soar("audit", "status").out
    assert home.soar("audit", "verify", "--json").json["exposed"] == after["exposed"]


def test_status_does_not_count_a_checkpoint_that_is_not_good(home: Home) -> None:
    with intruder(home) as db:
        db.execute("UPDATE checkpoints SET text = replace(text, 'soar.local', 'soar.total')")
    said = home.soar("audit", "status", "--json")
    assert said.code == 1
    assert said.json["checkpoint_size"] == 0
    assert said.json["problem"]


def test_show_reads_entries_of_a_run_or_type(home: Home) -> None:
    newest = home.soar("audit", "show", "--limit", "3", "--json").json
    assert [entry["index"] for entry in newest] == sorted(entry["index"] for entry in newest)
    assert len(newest) == 3
    created = home.soar("audit", "show", "--type", "run.created", "--limit", "1", "--json").json
    assert [entry["type"] for entry in created] == ["run.created"]
    of_run = home.soar("audit", "show", "--run", created[0]["run"], "--json").json
    assert {entry["run"] for entry in of_run} == {created[0]["run"]}
    admitted = home.soar("audit", "show", "--type", "alert.admitted", "--limit", "1")
    assert "alert.admitted" in admitted.out
    assert len(admitted.out.splitlines()) == 1


def test_show_reads_what_is_left_of_a_spoilt_entry(home: Home) -> None:
    with intruder(home) as db:
        db.execute("UPDATE entries SET leaf = x'7b', at = ? WHERE idx = (SELECT max(idx) FROM entries)", ("\x1b[31m",))
    said = home.soar("audit", "show", "--limit", "1")
    assert "the leaf cannot be read" in said.out
    assert "\x1b" not in said.out


def test_an_open_store_verifies_while_it_grows(home: Home) -> None:
    """The path that `soar demo` takes: over the port, beside the writer."""

    async def work() -> None:
        loaded = load_settings(home.config)
        async with assemble(loaded) as service:
            signer = service.signer()
            report = await verify_store(service.store, verifier=signer.verifier, origin=signer.name)
            assert report.ok
            assert report.covered == report.entries > 0
            assert home.store.with_name("soar.db-wal").exists(), "the writer is there"

    asyncio.run(work())


def test_verify_store_finds_what_the_command_finds(home: Home) -> None:
    with intruder(home) as db:
        db.execute("UPDATE entries SET leaf_hash = x'00' WHERE idx = ?", (VICTIM,))

    async def work() -> int | None:
        async with assemble(load_settings(home.config)) as service:
            signer = service.signer()
            report = await verify_store(service.store, verifier=signer.verifier, origin=signer.name)
            return report.first_bad

    assert asyncio.run(work()) == VICTIM
