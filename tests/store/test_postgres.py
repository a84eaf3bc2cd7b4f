"""What PostgreSQL adds to the promises of every store: its server, its text, its roles, its lost connections."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from importlib import resources
from typing import Any

import asyncpg
import pytest

from soar.errors import StoreError, StoreUnavailableError
from soar.model.action import Target
from soar.model.alert import Alert, AlertDocument, DeadLetter, Outcome, Record
from soar.model.run import RunState, StepState
from soar.store.port import (
    AdmissionKeys,
    Fact,
    FinishRun,
    InsertAlert,
    InsertAttempt,
    InsertDeadLetter,
    InsertRecord,
    InsertRun,
    ParkRun,
    PutStep,
    SetControl,
    SignalRun,
)
from soar.store.postgres import PostgresStore
from soar.store.postgres.connect import connect
from soar.store.postgres.migrate import SCHEMA_VERSION

from .facts import NOW, a_request, a_run, a_step, admission, an_alert, begin, entry, intent, later, put, rows, take
from .wire import Wire, wire

NASTY = "a\x00b\x01c\x01\x02\x02\x00\\'\"\u202e\U0001f480"


@pytest.fixture
async def home(postgres_home: str) -> str:
    return postgres_home


@pytest.fixture
async def store(home: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(home)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def db(home: str) -> AsyncIterator[Any]:
    db = await asyncpg.connect(home)
    yield db
    await db.close()


# The server


@pytest.mark.parametrize("lax", ["off", "local", "remote_write"])
async def test_a_server_that_answers_before_it_has_written_is_refused(home: str, lax: str) -> None:
    store = PostgresStore(f"{home}&synchronous_commit={lax}")
    with pytest.raises(StoreUnavailableError, match=f"synchronous_commit = {lax}; .* SET synchronous_commit = on"):
        await store.open()
    await store.close()


async def test_a_schema_of_the_future_is_refused(home: str, store: PostgresStore, db: Any) -> None:
    await db.execute("INSERT INTO schema_versions VALUES ($1, now())", SCHEMA_VERSION + 1)
    another = PostgresStore(home)
    with pytest.raises(StoreUnavailableError, match="run a newer soar"):
        await another.open()
    await another.close()


async def test_many_that_open_an_empty_database_at_once_make_one_schema(home: str) -> None:
    stores = [PostgresStore(home) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    assert [await store.tree() for store in stores] == [await stores[0].tree()] * 4
    for store in stores:
        await store.close()


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    store = PostgresStore("postgresql://soar:secret@127.0.0.1:1/soar")
    with pytest.raises(StoreUnavailableError, match=r"postgresql://127\.0\.0\.1:1/soar cannot be opened") as refused:
        await store.open()
    assert "secret" not in str(refused.value)


# What attackers write


async def test_text_of_any_characters_comes_back_as_it_was(store: PostgresStore) -> None:
    """PostgreSQL's text holds no U+0000; ours does."""
    alert = an_alert("alert-1", uid=NASTY, title=NASTY, source=NASTY, raw={"text": NASTY, "number": 2**63 - 1})
    told = replace(entry(subject="alert-1"), payload={"alert": alert.model_dump(mode="json")})
    insert = InsertAlert(
        alert=AlertDocument.of(alert),
        outcome=Outcome.NO_MATCH,
        matches=(),
        coordinates=NASTY,
        content="c",
        entry_id=told.id,
    )
    keys = AdmissionKeys(
        coordinates=frozenset({NASTY}), uids=frozenset({(NASTY, NASTY, "c")}), uids_since=later(-60),
        windows=frozenset(), now=NOW,
    )  # fmt: skip
    record = Record(source="s", topic=NASTY, offset=1, value=b"\x00\xff", received_at=NOW)
    letter = DeadLetter(id="dead-1", record=record, code="unreadable", reason=NASTY, at=NOW)
    writes = (InsertRecord(coordinates=NASTY, at=NOW), insert, InsertDeadLetter(letter=letter))
    await store.admit(keys, lambda _: Fact(writes=writes, entries=(told,)))
    known = []
    await store.admit(keys, lambda held: known.append(held) or Fact())
    assert known[0].coordinates == {NASTY}
    assert known[0].repeats == {(NASTY, NASTY, "c"): "alert-1"}
    assert await store.alert("alert-1") == alert
    (row,) = await store.alerts(source=NASTY)
    assert (row.title, row.coordinates) == (NASTY, NASTY)
    assert await store.dead_letters() == [letter]


async def test_a_run_keeps_any_values_and_errors(store: PostgresStore) -> None:
    values = {"text": NASTY, "number": 2**64, "float": 1e300, "deep": [[{"a": None}]]}
    await begin(store, "run-1", vars=values)
    (lease,) = await take(store)
    await put(store, PutStep(record=a_step("run-1", StepState.SUCCEEDED, result=values, error=NASTY)))
    await put(store, FinishRun(run_id="run-1", state=RunState.FAILED, outputs=values, error=NASTY, at=NOW), lease=lease)
    run = await store.run("run-1")
    assert run is not None
    assert (run.vars, run.outputs, run.error) == (values, values, NASTY)
    assert (await store.steps("run-1"))["s"].result == values


async def test_names_of_any_length_are_names(store: PostgresStore) -> None:
    """A btree key ends at 2,704 bytes; what an attacker sends does not."""
    long = secrets.token_hex(20_000)
    alert = an_alert("alert-1", uid=long)
    insert = InsertAlert(
        alert=AlertDocument.of(alert), outcome=Outcome.NO_MATCH, matches=(), coordinates=long, content="c", entry_id="e"
    )
    keys = AdmissionKeys(
        coordinates=frozenset({long}), uids=frozenset({("s", long, "c")}), uids_since=later(-60),
        windows=frozenset(), now=NOW,
    )  # fmt: skip
    await store.admit(keys, lambda _: Fact(writes=(InsertRecord(coordinates=long, at=NOW), insert)))
    known = []
    await store.admit(keys, lambda held: known.append(held) or Fact())
    assert known[0].coordinates == {long}
    assert known[0].uids == {("s", long): "alert-1"}
    await begin(store, "run-1")
    write = intent("run-1")
    request = a_request("run-1").model_copy(update={"targets": (Target(type="host", id=long),)})
    attempt = write.attempt.model_copy(update={"request": request})
    assert await put(store, InsertAttempt(attempt=attempt, playbook_id="p")) is None
    assert await store.action_counts([f"target:host:{long}"], later(-1)) == {f"target:host:{long}": 1}


async def test_a_payload_of_20_megabytes_is_kept(store: PostgresStore) -> None:
    told = replace(entry(), payload={"text": "x" * 20_000_000})
    assert await store.commit([Fact(entries=(told,))]) == [None]
    (row,) = await rows(store)
    assert row.payload is not None
    assert len(row.payload) > 20_000_000


async def test_what_only_the_database_can_refuse_takes_no_other_with_it(store: PostgresStore) -> None:
    """A lone surrogate is found out when the batch is sent, an unknown duplicate when it is written."""
    await put(store, InsertRecord(coordinates="k/0/1", at=NOW))
    facts = [
        Fact(writes=(InsertRun(run=a_run("run-1")),), entries=(entry("run-1"),)),
        Fact(writes=(InsertRun(run=a_run("run-2", vars={"text": "\ud800"})),)),
        Fact(writes=(InsertRecord(coordinates="k/0/1", at=NOW),), entries=(entry(),)),
        Fact(writes=(SignalRun(run_id="run-1"),), entries=(entry("run-1"),)),
        Fact(entries=(entry("run-2"),)),
    ]
    done = await store.commit(facts)
    assert [refusal is None for refusal in done] == [True, False, False, True, False]
    assert all(isinstance(refusal, StoreError) for refusal in done if refusal is not None)
    assert [row.run_id for row in await rows(store)] == ["run-1", "run-1"]


# Roles


JOURNAL = ("entries", "checkpoints", "payloads")


@pytest.mark.parametrize("table", JOURNAL)
async def test_the_owner_cannot_change_the_journal_by_accident(store: PostgresStore, db: Any, table: str) -> None:
    await store.commit([Fact(entries=(entry(),))])
    await store.add_checkpoint(1, "text")
    changes = ["UPDATE {} SET {} = {}", "TRUNCATE {}"] + ["DELETE FROM {}"] * (table != "payloads")
    column = {"entries": "type", "checkpoints": "text", "payloads": "body"}[table]
    for change in changes:
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await db.execute(change.format(table, column, column))


@pytest.fixture
async def role(home: str, store: PostgresStore, db: Any) -> AsyncIterator[str]:
    """DSN of a role that was granted what `grants.sql` says."""
    name, schema = f"role_{secrets.token_hex(4)}", home.rsplit("=", 1)[1]
    await db.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'word'")
    grants = resources.files("soar.store.postgres").joinpath("grants.sql").read_text()
    await db.execute(grants.replace(':"role"', name).replace(':"schema"', schema))
    place = home.split("@", 1)[1]
    yield f"postgresql://{name}:word@{place}"
    await db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_the_services_own_role_does_its_work_and_cannot_rewrite_the_journal(role: str) -> None:
    store = PostgresStore(role)
    await store.open()
    keys, fact = admission("k/0/1", "alert-1")
    await store.admit(keys, lambda _: fact)
    await begin(store, "run-1")
    (lease,) = await take(store)
    assert await put(store, intent("run-1"), lease=lease, run_id="run-1") is None
    assert await put(store, SetControl(key="halt", value="x")) is None
    assert await put(store, SetControl(key="halt", value=None)) is None
    assert await put(store, ParkRun(run_id="run-1", wake_at=NOW), lease=lease, run_id="run-1") is None
    await store.add_checkpoint(1, "text")
    await store.close()
    db = await asyncpg.connect(role)
    for table in JOURNAL:
        for change in (f"DELETE FROM {table}", f"TRUNCATE {table}", f"ALTER TABLE {table} DISABLE TRIGGER ALL"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.execute(change)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await db.execute("UPDATE entries SET type = 'x'")
    await db.close()


# Lost connections


@pytest.fixture
async def line(home: str, store: PostgresStore) -> AsyncIterator[Wire]:
    async with wire(home) as line:
        yield line


def at_commit(line: Wire, where: str, times: int = 1) -> None:
    """Cut the wire at the next COMMIT, before or after the server has it."""
    line.cut = lambda data: where if data.endswith(b"COMMIT\x00") and line.cuts < times else None


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("told", [True, False], ids=["with-entries", "without"])
async def test_a_commit_that_was_not_answered_is_found_out_about(
    line: Wire, store: PostgresStore, where: str, told: bool
) -> None:
    """Whether COMMIT took effect or not, the facts are there exactly once and the caller learns that they are."""
    cut = PostgresStore(line.dsn)
    await cut.open()
    at_commit(line, where)
    facts = [Fact(writes=(InsertRun(run=a_run("run-1")),), entries=(entry("run-1"),) if told else ())]
    assert await cut.commit(facts) == [None]
    assert line.cuts == 1
    await cut.close()
    assert await store.run("run-1") is not None
    assert len(await rows(store)) == told


@pytest.mark.parametrize("where", ["before", "after"])
async def test_an_admission_that_was_not_answered_is_found_out_about(
    line: Wire, store: PostgresStore, where: str
) -> None:
    cut = PostgresStore(line.dsn)
    await cut.open()
    at_commit(line, where)
    keys, fact = admission("k/0/1", "alert-1")
    assert await cut.admit(keys, lambda known: Fact() if known.coordinates else fact) == fact
    assert line.cuts == 1
    await cut.close()
    assert (await store.counts()).alerts == {"no_match": 1}


async def test_what_is_lost_before_commit_is_done_again(line: Wire, store: PostgresStore) -> None:
    cut = PostgresStore(line.dsn)
    await cut.open()
    for number in range(10):
        line.hang_up()
        assert await cut.commit([Fact(entries=(entry(subject=str(number)),))]) == [None]
    await cut.close()
    assert len(await rows(store)) == 10


async def test_a_server_that_stays_away_is_unavailable_and_nothing_was_written(
    line: Wire, store: PostgresStore
) -> None:
    cut = PostgresStore(line.dsn, patience_seconds=0.2)
    await cut.open()
    line.cut = lambda _: "before"
    line.hang_up()
    with pytest.raises(StoreUnavailableError, match="nothing was written"):
        await cut.commit([Fact(entries=(entry(),))])
    with pytest.raises(StoreUnavailableError):
        await cut.counts()
    await cut.close()
    assert await rows(store) == []


async def test_what_was_begun_is_ended_though_its_caller_is_cancelled(home: str, store: PostgresStore) -> None:
    await begin(store, "run-1")
    for number in range(20):
        write = asyncio.create_task(store.commit([Fact(entries=(entry("run-1"), entry()))]))
        await asyncio.sleep(number / 4000)
        write.cancel()
    await store.close()
    again = PostgresStore(home)
    await again.open()
    assert (await again.tree())[0] == 40
    await again.close()


async def test_a_stopped_process_holds_a_run_no_longer_than_a_few_seconds(home: str, store: PostgresStore) -> None:
    """A worker that is stopped in the middle of a transaction loses it; the others go on."""
    await begin(store, "run-1")
    zombie = await connect(home)
    await zombie.execute("BEGIN; SELECT * FROM runs FOR UPDATE; SELECT * FROM tree FOR UPDATE")
    assert await put(store, SignalRun(run_id="run-1"), run_id="run-1") is None
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await zombie.execute("UPDATE runs SET epoch = 99; COMMIT")
    zombie.terminate()
    run = await store.run("run-1")
    assert run is not None
    assert run.epoch == 0


async def test_a_process_stopped_between_preparing_and_running_a_statement_holds_nobody_up(
    home: str, store: PostgresStore
) -> None:
    """To the server its session is active, not idle, so the server never ends it by itself."""
    await begin(store, "run-1")
    zombie = await connect(home)
    await zombie.execute("BEGIN; SELECT * FROM runs FOR UPDATE; SELECT * FROM tree FOR UPDATE")
    await zombie.prepare("SELECT 1 + $1::int")
    assert await put(store, SignalRun(run_id="run-1"), run_id="run-1") is None
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await zombie.execute("UPDATE runs SET epoch = 99; COMMIT")
    zombie.terminate()


# Waking


async def test_who_listens_hears_of_runs_made_ready_elsewhere_also_after_a_lost_connection(
    home: str, store: PostgresStore, line: Wire
) -> None:
    heard = asyncio.Semaphore(0)
    ears = PostgresStore(line.dsn)
    await ears.open()
    listening = asyncio.create_task(ears.listen(heard.release))
    await heard.acquire()  # once when it begins
    await begin(store, "run-1")
    await heard.acquire()
    line.hang_up()
    await heard.acquire()  # it listens again
    (lease,) = await take(store)
    await put(store, ParkRun(run_id="run-1", wake_at=NOW + timedelta(days=1)), lease=lease)
    await put(store, SignalRun(run_id="run-1"))
    await heard.acquire()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await ears.close()


async def test_alerts_bodies_come_from_the_journal_and_end_with_it(store: PostgresStore, db: Any) -> None:
    keys, fact = admission("k/0/1", "alert-1")
    await store.admit(keys, lambda _: fact)
    assert isinstance(await store.alert("alert-1"), Alert)
    await db.execute("DELETE FROM payloads")
    assert await store.alert("alert-1") is None
