"""What durability costs: facts one by one, 100 to a commit, and batches of 500 admitted alerts, on both stores.

    python benchmarks/store.py [--postgres DSN] [--folder DIR] [--json]

A fact is what a run records of one finished step: the step, its attempt's outcome and the entry. The stores take
turns within one run, so that their ratio holds on a noisy machine; each figure is the median of the rounds. DIR must
be on the disk in question (default: here), DSN may be any database; a schema is made and dropped.
"""

import argparse
import asyncio
import json
import os
import secrets
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from soar.model.action import ActionRequest, Attempt, AttemptState, Effect, Impact, Risk, Target
from soar.model.alert import Alert, Outcome, Severity
from soar.model.clock import UlidSource
from soar.model.entry import Entry, EntryType
from soar.model.run import Run, RunKind, RunState, StepRecord, StepState
from soar.store.port import (
    AdmissionKeys,
    Fact,
    InsertAlert,
    InsertAttempt,
    InsertRecord,
    InsertRun,
    Lease,
    MoveAttempt,
    PutStep,
)
from soar.store.postgres import PostgresStore
from soar.store.sqlite import SqliteStore

ROUNDS = 7
ONE_BY_ONE = 100
BATCHES, BATCH = 6, 100
ADMISSIONS, RECORDS = 3, 500

ids = UlidSource()


def entry(kind, run_id=None, payload=None):
    return Entry.model_construct(
        id=ids.new("entry"), type=kind, at=datetime.now(UTC), actor="worker:bench", run_id=run_id, subject="block",
        data={"state": "succeeded"}, payload=payload,
    )  # fmt: skip


async def leased(store, count):
    """Runs under way, each with an action that was sent."""
    now = datetime.now(UTC)
    runs = [
        Run(id=ids.new("run"), kind=RunKind.ALERT, state=RunState.READY, playbook_id="p", playbook_digest="d" * 64,
            created_at=now)
        for _ in range(count)
    ]  # fmt: skip
    await store.commit([Fact(writes=(InsertRun(run=run),)) for run in runs])
    taken = await store.lease(owner="bench", until=now + timedelta(hours=1), limit=count)
    leases = [Lease(run_id=run.id, epoch=run.epoch) for run in taken]
    await store.commit([Fact(writes=(intent(lease),), lease=lease) for lease in leases])
    return leases


def intent(lease):
    request = ActionRequest(
        run_id=lease.run_id, path="block", step_id="block", connector="lab_firewall", instance="fw",
        connector_version="1", verb="block", effect=Effect.KEYED, risk=Risk.CONTAIN, impact=Impact.REVERSIBLE,
        params={"ip": "203.0.113.7", "reason": "bench"}, targets=(Target(type="ip", id="203.0.113.7"),),
        idempotency_key="k" * 64,
    )  # fmt: skip
    attempt = Attempt(run_id=lease.run_id, path="block", number=1, state=AttemptState.INTENDED, request=request,
                      epoch=lease.epoch, intended_at=datetime.now(UTC))  # fmt: skip
    return InsertAttempt(attempt=attempt, playbook_id="p")


def outcome(lease):
    """The fact of one finished step."""
    now = datetime.now(UTC)
    record = StepRecord(run_id=lease.run_id, path="block", step_id="block", kind="use", state=StepState.SUCCEEDED,
                        result={"ip": "203.0.113.7", "blocked": True}, started_at=now, finished_at=now)  # fmt: skip
    moved = MoveAttempt(run_id=lease.run_id, path="block", number=1, expect=AttemptState.INTENDED,
                        to=AttemptState.SUCCEEDED, at=now)  # fmt: skip
    told = entry(EntryType.ACTION_OUTCOME, lease.run_id, {"result": record.result})
    return Fact(writes=(moved, PutStep(record=record)), entries=(told,), lease=lease)


def arrival():
    """Keys and decision for a batch of alerts of 2 KB that match nothing."""
    now = datetime.now(UTC)
    alerts = [
        Alert(id=ids.new("alert"), uid=secrets.token_hex(8), source="bench", product="bench", title="Something",
              severity=Severity.LOW, severity_score=30, time=now, received_at=now, raw={"text": "x" * 1500})
        for _ in range(RECORDS)
    ]  # fmt: skip
    keys = AdmissionKeys(
        coordinates=frozenset(f"bench/t/0/{alert.uid}" for alert in alerts),
        uids=frozenset((alert.source, alert.uid, alert.uid) for alert in alerts),
        uids_since=now - timedelta(days=1), windows=frozenset(), now=now,
    )  # fmt: skip

    def decide(_known):
        writes, entries = [], []
        for alert in alerts:
            at = f"bench/t/0/{alert.uid}"
            told = entry(EntryType.ALERT_ADMITTED, None, {"alert": alert.model_dump(mode="json")})
            insert = InsertAlert(alert=alert, outcome=Outcome.NO_MATCH, matches=(), coordinates=at, content=alert.uid,
                                 entry_id=told.id)  # fmt: skip
            writes += [InsertRecord(coordinates=at, at=now), insert]
            entries.append(told)
        return Fact(writes=tuple(writes), entries=tuple(entries))

    return keys, decide


async def one_by_one(store):
    leases = await leased(store, ONE_BY_ONE)
    facts = [outcome(lease) for lease in leases]
    started = time.perf_counter()
    for fact in facts:
        assert await store.commit([fact]) == [None]
    return ONE_BY_ONE / (time.perf_counter() - started)


async def together(store):
    leases = await leased(store, BATCHES * BATCH)
    facts = [outcome(lease) for lease in leases]
    started = time.perf_counter()
    for at in range(0, len(facts), BATCH):
        assert await store.commit(facts[at : at + BATCH]) == [None] * BATCH
    return BATCHES * BATCH / (time.perf_counter() - started)


async def admitted(store):
    arrivals = [arrival() for _ in range(ADMISSIONS)]
    started = time.perf_counter()
    for keys, decide in arrivals:
        await store.admit(keys, decide)
    return ADMISSIONS * RECORDS / (time.perf_counter() - started)


MEASURES = {
    "facts/s one by one": one_by_one,
    f"facts/s, {BATCH} to a commit": together,
    f"alerts/s, {RECORDS} to an admission": admitted,
}


async def measure(stores):
    """Median of each measure by store."""
    rates = {what: {name: [] for name in stores} for what in MEASURES}
    for _ in range(ROUNDS):
        for what, run in MEASURES.items():
            for name, store in stores.items():
                rates[what][name].append(await run(store))
    return {what: {name: round(statistics.median(r)) for name, r in by.items()} for what, by in rates.items()}


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--postgres", metavar="DSN")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix=".bench-") as folder:
        stores = {"sqlite": SqliteStore(Path(folder, "soar.db"))}
        schema = f"bench_{secrets.token_hex(4)}"
        if chosen.postgres:
            db = await asyncpg.connect(chosen.postgres)
            await db.execute(f"CREATE SCHEMA {schema}")
            stores["postgres"] = PostgresStore(f"{chosen.postgres}?search_path={schema}")
        for store in stores.values():
            await store.open()
        found = await measure(stores)
        for store in stores.values():
            await store.close()
        if chosen.postgres:
            await db.execute(f"DROP SCHEMA {schema} CASCADE")
            await db.close()
    if chosen.json:
        print(json.dumps({"cores": os.cpu_count(), "rounds": ROUNDS, "rates": found}))
        return
    for what, by in found.items():
        print(f"{what:36}" + "   ".join(f"{name} {rate:>7,}" for name, rate in by.items()))


if __name__ == "__main__":
    asyncio.run(main())
