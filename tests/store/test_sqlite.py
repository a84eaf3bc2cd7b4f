"""What the embedded store promises beyond the port: about its one file, its disk, and its end."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from soar.engine.audit import verify_store
from soar.errors import StoreError, StoreUnavailableError
from soar.journal.note import Signer
from soar.model.run import StepState
from soar.store.port import Fact, InsertPlaybook, PutStep
from soar.store.sqlite import SqliteStore

from .facts import a_step, admission, begin, entry, rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "soar.db"


async def opened(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    await store.open()
    return store


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE entries SET type = 'x'",
        "DELETE FROM entries",
        "REPLACE INTO entries SELECT idx, id, 'x', at, run_id, leaf, leaf_hash FROM entries",
        "INSERT OR REPLACE INTO entries SELECT 99, id, 'x', at, run_id, leaf, leaf_hash FROM entries",
        "UPDATE checkpoints SET text = 'x'",
        "DELETE FROM checkpoints",
        "UPDATE payloads SET body = x'00'",
    ],
)
async def test_the_journal_refuses_changes_from_whoever_opens_the_file(path: Path, sql: str) -> None:
    store = await opened(path)
    await store.commit([Fact(entries=(entry(),))])
    await store.add_checkpoint(1, "text")
    with closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute(sql)
    await store.close()


async def test_a_file_of_a_newer_soar_is_refused_with_the_remedy(path: Path) -> None:
    store = await opened(path)
    await store.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailableError, match=r"schema 99.*newer soar"):
        await opened(path)


async def test_what_is_no_database_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE x (y)")
    with path.open("r+b") as file:
        file.write(b"not a database at all, but as long as the head of one is, and a little more")
    with pytest.raises(StoreUnavailableError, match=r"soar\.db"):
        await opened(path)


async def test_two_that_open_a_new_file_at_once_both_get_it(path: Path) -> None:
    first, second = SqliteStore(path), SqliteStore(path)
    await first.open()
    await second.open()
    await first.commit([Fact(entries=(entry(),))])
    assert len(await rows(second)) == 1
    await first.close()
    await second.close()


async def limit_pages(store: SqliteStore, more: int) -> None:
    """The disk has room for so many further pages."""

    def work(db: sqlite3.Connection) -> None:
        used = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {used + more}")

    await store._write(work)


async def test_a_full_disk_loses_nothing_that_was_acknowledged_and_goes_on_when_there_is_room(path: Path) -> None:
    store = await opened(path)
    await begin(store, "run-1")
    await limit_pages(store, 8)
    kept = 0

    async def fill() -> None:
        nonlocal kept
        for number in range(1000):
            record = a_step("run-1", StepState.WAITING, f"s{number}", result="x" * 500)
            assert await store.commit([Fact(writes=(PutStep(record=record),), entries=(entry("run-1"),))]) == [None]
            kept += 1

    with pytest.raises(StoreUnavailableError, match="full"):
        await fill()
    big = InsertPlaybook(digest="d", playbook_id="p", file="f", text="x" * 100_000)
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await store.commit([Fact(entries=(entry("run-1"),)), Fact(writes=(big,), entries=(entry("run-1"),))])
    assert (len(await store.steps("run-1")), len(await rows(store))) == (kept, kept)
    await limit_pages(store, 10_000)
    assert await store.commit([Fact(writes=(big,), entries=(entry("run-1"),))]) == [None]
    signer = Signer.generate("x/y")
    assert (await verify_store(store, verifier=signer.verifier, origin="x/y")).ok
    await store.close()


async def test_a_locked_file_is_unavailable_not_refused(path: Path) -> None:
    store = await opened(path)
    await store._write(lambda db: None)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        store._writer.submit(lambda: store._write_db.execute("PRAGMA busy_timeout = 50")).result()  # type: ignore[union-attr]
        with pytest.raises(StoreUnavailableError, match="locked"):
            await store.commit([Fact(entries=(entry(),))])
    assert await store.commit([Fact(entries=(entry(),))]) == [None]
    await store.close()


WRITER = """
import asyncio, itertools, sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from soar.store.sqlite import SqliteStore
from soar.store.port import Fact, PutStep
from soar.model.run import StepState
from facts import a_step, begin, entry

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    round_ = sys.argv[3]
    await begin(store, f"run-{round_}")
    for number in itertools.count():
        facts = [
            Fact(
                writes=(PutStep(record=a_step(f"run-{round_}", StepState.SUCCEEDED, f"{number}.{i}")),),
                entries=(replace(entry(f"run-{round_}"), id=f"{round_}.{number}.{i}"),),
            )
            for i in range(5)
        ]
        assert await store.commit(facts) == [None] * 5
        print(number, flush=True)

asyncio.run(main())
"""


def kill_a_writer(path: Path, round_: int) -> int:
    """Let a process of its own write, kill it in the midst; the last number that it acknowledged."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent), str(round_)],
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        last = 0
        for line in writer.stdout:
            last = int(line)
            if last == 20 + 7 * round_:
                writer.kill()
        return last


async def test_a_killed_writer_leaves_all_that_it_acknowledged_and_a_journal_that_verifies(path: Path) -> None:
    acknowledged = {round_: kill_a_writer(path, round_) for round_ in range(4)}
    store = await opened(path)
    for round_, last in acknowledged.items():
        steps = await store.steps(f"run-{round_}")
        assert {f"{number}.{i}" for number in range(last + 1) for i in range(5)} <= set(steps)
        assert len(await rows(store, run_id=f"run-{round_}")) == len(steps)
    signer = Signer.generate("x/y")
    assert (await verify_store(store, verifier=signer.verifier, origin="x/y")).ok
    await store.close()


async def test_a_store_can_be_opened_where_a_broken_rollback_left_off(path: Path) -> None:
    """A transaction that could not even be rolled back must not refuse all that follows."""
    store = await opened(path)
    store._writer.submit(lambda: store._write_db.execute("BEGIN")).result()  # type: ignore[union-attr]
    assert await store.commit([Fact(entries=(entry(),))]) == [None]
    assert len(await rows(store)) == 1
    await store.close()


async def test_a_bug_in_a_decision_rolls_back_and_is_not_hidden(path: Path) -> None:
    store = await opened(path)
    keys, _ = admission("k/0/1", "alert-1")

    def decide(_: object) -> Fact:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.admit(keys, decide)  # type: ignore[arg-type]
    assert await store.commit([Fact(entries=(entry(),))]) == [None]
    assert not isinstance((await store.commit([Fact()]))[0], StoreError)
    await store.close()
