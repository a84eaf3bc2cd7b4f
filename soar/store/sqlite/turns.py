"""Turns at limited instances, as rows. What is decided by them stands in `soar.store.turns`."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from soar.errors import HaltedError, StateConflictError
from soar.model.base import from_rfc3339, to_rfc3339
from soar.model.limits import Limits
from soar.store import port, queueing
from soar.store.sqlite.rows import moment, when
from soar.store.turns import SKEW, WINDOW, Pace, Waiting, calls_of, check_held, hold_key, later

_IN_USE = """
SELECT run_id, path, state, until FROM turns WHERE instance = ? AND state IN ('called', 'taken') AND until > ?
"""

# Who is paused, cancelled or has ended stands in nobody's way.
_LINE = """
SELECT t.priority, t.arrived, t.run_id, t.path FROM turns AS t
JOIN runs ON runs.id = t.run_id AND NOT runs.paused AND NOT runs.cancel_requested
    AND runs.state IN ('ready', 'running', 'waiting')
JOIN steps ON steps.run_id = t.run_id AND steps.path = t.path AND steps.state = 'waiting'
WHERE t.instance = ? AND t.state = 'queued' ORDER BY {} LIMIT ?
"""
_BY_URGENCY = _LINE.format("t.priority DESC, t.arrived, t.run_id, t.path")
_BY_ARRIVAL = _LINE.format("t.arrived, t.run_id, t.path")

_WAITED_FOR = """
SELECT instance FROM paces
WHERE EXISTS (SELECT 1 FROM turns AS t WHERE t.instance = paces.instance AND t.state = 'queued')
"""

_PUT = """
INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, path) DO UPDATE SET instance = excluded.instance, state = excluded.state, until = excluded.until
"""

_SWEEP = """
DELETE FROM turns WHERE NOT EXISTS (
    SELECT 1 FROM runs JOIN steps ON steps.run_id = runs.id AND steps.path = turns.path AND steps.state = 'waiting'
    WHERE runs.id = turns.run_id AND runs.state IN ('ready', 'running', 'waiting')
) AND (state = 'queued' OR until < ?)
"""

_BEFORE = """
SELECT (SELECT count(*) FROM (
    SELECT 1 FROM turns AS o WHERE o.instance = t.instance AND o.state = 'queued' AND (o.priority > t.priority OR (
        o.priority = t.priority AND (o.arrived, o.run_id, o.path) < (t.arrived, t.run_id, t.path))) LIMIT 1000))
FROM turns AS t WHERE run_id = ? AND path = ? AND state = 'queued'
"""

_TRAFFIC = """
SELECT instance, held.value AS held_until,
    (SELECT count(*) FROM turns WHERE turns.instance = all_.instance AND state = 'taken' AND until > :now) AS under_way,
    (SELECT count(*) FROM turns WHERE turns.instance = all_.instance AND state = 'queued') AS queued
FROM (SELECT instance FROM paces UNION SELECT substr(key, 6) FROM control WHERE key LIKE 'hold:%') AS all_
LEFT JOIN control AS held ON held.key = 'hold:' || instance ORDER BY instance
"""


def check_switches(db: sqlite3.Connection, instance: str, now: datetime) -> None:
    """Raise HaltedError while the kill switch is set, BusyError while the instance is held."""
    hold = hold_key(instance)
    switches = dict(db.execute("SELECT key, value FROM control WHERE key IN ('halt', ?)", (hold,)).fetchall())
    if "halt" in switches:
        raise HaltedError("the kill switch is set; `soar resume` clears it")
    check_held(instance, switches.get(hold), now)


def take(db: sqlite3.Connection, write: port.InsertAttempt, turn: queueing.Turn) -> None:
    """Give an intent its turn; raises BusyError."""
    attempt, instance = write.attempt, write.attempt.request.instance
    now = attempt.intended_at
    arrived = db.execute("SELECT arrived FROM turns WHERE run_id = ? AND path = ?", (attempt.run_id, attempt.path))
    row = arrived.fetchone()
    asker = Waiting(turn.priority, from_rfc3339(row[0]) if row else now, attempt.run_id, attempt.path)
    pace = _pace(db, instance, now, limits=turn.limits).take(asker, now=now, lasts=turn.lasts)
    _keep(db, pace)
    _put(db, instance, "taken", asker, pace.taken[asker.key])


def free(db: sqlite3.Connection, run_id: str, path: str) -> None:
    """End a turn."""
    db.execute("DELETE FROM turns WHERE run_id = ? AND path = ?", (run_id, path))


def join(db: sqlite3.Connection, write: queueing.JoinQueue) -> None:
    """Queue."""
    known = "INSERT INTO paces VALUES (?, ?, NULL, NULL, 0) ON CONFLICT DO UPDATE SET limits = excluded.limits"
    db.execute(known, (write.instance, write.limits.model_dump_json()))
    _put(db, write.instance, "queued", Waiting(write.priority, write.at, write.run_id, write.path), None)


def call(db: sqlite3.Connection, write: queueing.CallTurn) -> None:
    """Keep a turn for one who waits; raises StateConflictError where none is free or it waits no more."""
    key = (write.run_id, write.path)
    pace = _pace(db, write.instance, write.at).call(key, now=write.at)
    done = db.execute(
        "UPDATE turns SET state = 'called', until = ? WHERE run_id = ? AND path = ? AND state = 'queued'",
        (to_rfc3339(pace.called[key]), *key),
    )
    if done.rowcount != 1:
        raise StateConflictError(f"step {write.path} of run {write.run_id} waits for no turn")
    _keep(db, pace)


def hold(db: sqlite3.Connection, write: queueing.HoldInstance) -> None:
    """Leave an instance alone."""
    key = hold_key(write.instance)
    held = db.execute("SELECT value FROM control WHERE key = ?", (key,)).fetchone()
    db.execute("INSERT OR REPLACE INTO control VALUES (?, ?)", (key, later(write.until, held[0] if held else None)))


def sweep(db: sqlite3.Connection, now: datetime) -> None:
    """Forget the places of what has ended."""
    db.execute(_SWEEP, (to_rfc3339(now),))


def calls(db: sqlite3.Connection, now: datetime) -> queueing.Calls:
    """Whom to call."""
    names = [row[0] for row in db.execute(_WAITED_FOR)]
    if not names or db.execute("SELECT 1 FROM control WHERE key = 'halt'").fetchone() is not None:
        return queueing.Calls()
    return calls_of([_pace(db, name, now) for name in names], now)


def before(db: sqlite3.Connection, run_id: str, path: str) -> int | None:
    """How many wait before."""
    row = db.execute(_BEFORE, (run_id, path)).fetchone()
    return row[0] if row else None


def traffic(db: sqlite3.Connection, now: datetime) -> list[queueing.Traffic]:
    """What goes on."""
    return [
        queueing.Traffic(
            instance=row["instance"],
            under_way=row["under_way"],
            queued=row["queued"],
            held_until=moment(row["held_until"]),
        )
        for row in db.execute(_TRAFFIC, {"now": to_rfc3339(now)})
    ]


def _pace(db: sqlite3.Connection, instance: str, now: datetime, *, limits: Limits | None = None) -> Pace:
    row = db.execute("SELECT * FROM paces WHERE instance = ?", (instance,)).fetchone()
    if limits is None:
        limits = Limits.model_validate_json(row["limits"]) if row else Limits()
    held = db.execute("SELECT value FROM control WHERE key = ?", (hold_key(instance),)).fetchone()
    in_use = db.execute(_IN_USE, (instance, to_rfc3339(now - SKEW))).fetchall()
    pace = Pace(
        instance=instance,
        limits=limits,
        due=moment(row["due"]) if row else None,
        seen=moment(row["seen"]) if row else None,
        given=row["given"] if row else 0,
        held_until=moment(held[0]) if held else None,
        taken={(each[0], each[1]): from_rfc3339(each[3]) for each in in_use if each[2] == "taken"},
        called={(each[0], each[1]): from_rfc3339(each[3]) for each in in_use if each[2] == "called"},
    )
    return pace.with_queue(_queue(db, instance)) if pace.room(now) else pace


def _queue(db: sqlite3.Connection, instance: str) -> list[Waiting]:
    found = [*db.execute(_BY_URGENCY, (instance, WINDOW)), *db.execute(_BY_ARRIVAL, (instance, WINDOW // 10))]
    return [Waiting(row[0], from_rfc3339(row[1]), row[2], row[3]) for row in {tuple(each) for each in found}]


def _keep(db: sqlite3.Connection, pace: Pace) -> None:
    values = (pace.instance, pace.limits.model_dump_json(), when(pace.due), when(pace.seen), pace.given)
    db.execute("INSERT OR REPLACE INTO paces VALUES (?, ?, ?, ?, ?)", values)


def _put(db: sqlite3.Connection, instance: str, state: str, whose: Waiting, until: datetime | None) -> None:
    arrived = to_rfc3339(whose.arrived)
    db.execute(_PUT, (whose.run_id, whose.path, instance, state, whose.priority, arrived, when(until)))
