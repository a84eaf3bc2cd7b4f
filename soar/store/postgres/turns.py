"""Turns at limited instances, in a batch's sheet. What is decided by them stands in `soar.store.turns`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from asyncpg import Record as Row

from soar.errors import HaltedError, StateConflictError
from soar.model.action import Attempt
from soar.model.base import from_rfc3339
from soar.model.limits import Limits
from soar.store import port, queueing
from soar.store.postgres.connect import Db
from soar.store.postgres.rows import array, columns
from soar.store.postgres.sheet import Held, Sheet
from soar.store.postgres.sql import statements
from soar.store.turns import SKEW, WINDOW, Key, Pace, Waiting, calls_of, check_held, hold_key, later


@dataclass(slots=True)
class TurnNames:
    """The turns that a batch's facts ask for; empty where none does, and then nothing is read."""

    instances: set[str] = field(default_factory=set)
    steps: set[Key] = field(default_factory=set)
    since: datetime | None = None
    sweep_before: datetime | None = None

    def add(self, instance: str, run_id: str, path: str, at: datetime) -> None:
        """A step that asks at an instance."""
        self.instances.add(instance)
        self.steps.add((run_id, path))
        self.since = at if self.since is None else min(at, self.since)

    async def lock(self, db: Db, sheet: Sheet) -> None:
        """Lock the paces. Whoever holds one has seen all that was given before, and gives alone."""
        if not self.instances:
            return
        sql, names = statements("turns.sql"), sorted(self.instances)
        rows = await db.fetch(sql["lock_paces"], array(names))
        if len(rows) < len(names):
            await db.execute(sql["new_paces"], array(names))
            rows = await db.fetch(sql["lock_paces"], array(names))
        for row in rows:
            sheet.hold("paces", row["instance"], row=_pace(row))

    async def load(self, db: Db, sheet: Sheet) -> None:
        """Read who has turns there, who waits, and where the askers stand; after the holds are known."""
        if self.since is None:
            return
        for row in await db.fetch(statements("turns.sql")["asked"], *columns(sorted(self.steps))):
            sheet.hold("turns", row["run_id"], row["path"], row=tuple(row))
        paces = [sheet.get("paces", name) for name in self.instances]
        held = {pace.instance: _held(sheet, pace.instance) for pace in paces}
        for pace in await _in_full(db, paces, held, self.since):
            sheet.hold("paces", pace.instance, row=pace)


def check_switches(sheet: Sheet, instance: str, now: datetime) -> None:
    """Raise HaltedError while the kill switch is set, BusyError while the instance is held."""
    if sheet.get("control", "halt") is not None:
        raise HaltedError("the kill switch is set; `soar resume` clears it")
    check_held(instance, _held(sheet, instance), now)


def take(sheet: Sheet, write: port.InsertAttempt, turn: queueing.Turn) -> None:
    """Give an intent its turn; raises BusyError."""
    attempt, instance = write.attempt, write.attempt.request.instance
    now, key = attempt.intended_at, (attempt.run_id, attempt.path)
    known = sheet.get("turns", *key)
    asker = Waiting(turn.priority, known[5] if known else now, *key)
    pace = replace(sheet.get("paces", instance), limits=turn.limits).take(asker, now=now, lasts=turn.lasts)
    sheet.put("paces", instance, row=pace)
    _put(sheet, instance, "taken", asker, pace.taken[key])


def free(sheet: Sheet, attempt: Attempt) -> None:
    """End a turn."""
    key, instance = (attempt.run_id, attempt.path), attempt.request.instance
    sheet.delete("turns", *key)
    pace: Pace | None = sheet.get("paces", instance)
    if pace is not None:
        sheet.put("paces", instance, row=pace.without(key))


def join(sheet: Sheet, write: queueing.JoinQueue) -> None:
    """Queue."""
    pace: Pace = sheet.get("paces", write.instance)
    known = sheet.get("turns", write.run_id, write.path)
    waiting = Waiting(write.priority, known[5] if known else write.at, write.run_id, write.path)
    sheet.put("paces", write.instance, row=replace(pace, limits=write.limits).with_queue([*pace.queue, waiting]))
    _put(sheet, write.instance, "queued", waiting, None)


def call(sheet: Sheet, write: queueing.CallTurn) -> None:
    """Keep a turn for one who waits; raises StateConflictError where none is free or it waits no more."""
    key = (write.run_id, write.path)
    known = sheet.get("turns", *key)
    if known is None or known[3] != "queued":
        raise StateConflictError(f"step {write.path} of run {write.run_id} waits for no turn")
    pace = sheet.get("paces", write.instance).call(key, now=write.at)
    sheet.put("paces", write.instance, row=pace)
    _put(sheet, write.instance, "called", Waiting(known[4], known[5], *key), pace.called[key])


def hold(sheet: Sheet, write: queueing.HoldInstance) -> None:
    """Leave an instance alone."""
    key = hold_key(write.instance)
    sheet.put("control", key, row=(key, later(write.until, _held(sheet, write.instance))))


async def flush(db: Db, sheet: Sheet, names: TurnNames) -> None:
    """Write what the facts made of them."""
    sql = statements("turns.sql")
    paces = [
        (pace.instance, pace.limits.model_dump_json(), pace.due, pace.seen, pace.given)
        for pace in sheet.written("paces")
    ]
    for name, rows in (("paces", paces), ("turns", sheet.written("turns")), ("end_turns", sheet.deleted("turns"))):
        if rows:
            await db.execute(sql[name], *columns(rows))
    if names.sweep_before is not None:
        await db.execute(sql["sweep"], names.sweep_before)


async def calls(db: Db, now: datetime) -> queueing.Calls:
    """Whom to call."""
    sql = statements("turns.sql")
    paces = [_pace(row) for row in await db.fetch(sql["waited_for"])]
    if not paces:
        return queueing.Calls()
    found = dict(await db.fetch(sql["held"], [hold_key(pace.instance) for pace in paces]))
    held = {pace.instance: found.get(hold_key(pace.instance)) for pace in paces}
    return calls_of(await _in_full(db, paces, held, now), now)


async def traffic(db: Db, now: datetime) -> list[queueing.Traffic]:
    """What goes on."""
    return [
        queueing.Traffic(
            instance=row["instance"],
            under_way=row["under_way"],
            queued=row["queued"],
            held_until=from_rfc3339(row["held_until"]) if row["held_until"] else None,
        )
        for row in await db.fetch(statements("turns.sql")["traffic"], now)
    ]


def _pace(row: Row) -> Pace:
    return Pace(
        instance=row["instance"],
        limits=Limits.model_validate_json(row["limits"]),
        due=row["due"],
        seen=row["seen"],
        given=row["given"],
    )


async def _in_full(db: Db, paces: Sequence[Pace], held: dict[str, str | None], now: datetime) -> list[Pace]:
    sql, names = statements("turns.sql"), array(pace.instance for pace in paces)
    in_use: defaultdict[tuple[str, str], dict[Key, datetime]] = defaultdict(dict)
    for row in await db.fetch(sql["in_use"], names, now - SKEW):
        in_use[row["instance"], row["state"]][row["run_id"], row["path"]] = row["until"]
    queues: defaultdict[str, list[Waiting]] = defaultdict(list)
    for instance, *waiting in await db.fetch(sql["queue"], names, WINDOW):
        queues[instance].append(Waiting(*waiting))
    return [
        replace(
            pace,
            held_until=from_rfc3339(until) if (until := held[pace.instance]) else None,
            taken=in_use[pace.instance, "taken"],
            called=in_use[pace.instance, "called"],
            queue=tuple(queues[pace.instance]),
        )
        for pace in paces
    ]


def _held(sheet: Sheet, instance: str) -> str | None:
    row: Any = sheet.get("control", hold_key(instance))
    if row is None:
        return None
    return row.state if isinstance(row, Held) else str(row[1])


def _put(sheet: Sheet, instance: str, state: str, whose: Waiting, until: datetime | None) -> None:
    row = (whose.run_id, whose.path, instance, state, whose.priority, whose.arrived, until)
    sheet.put("turns", whose.run_id, whose.path, row=row)
