"""Queries. Each runs on the reading thread, outside any transaction of ours, unless a write calls it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from soar.model.action import Attempt
from soar.model.alert import DeadLetter
from soar.model.approval import Approval
from soar.model.base import to_rfc3339
from soar.model.clock import earliest
from soar.model.run import Run, StepRecord
from soar.model.suppression import Suppression
from soar.store import port
from soar.store.matches import Namesake
from soar.store.seen import Counts, EntryRow
from soar.store.sqlite.rows import alert_row_of, entry_of, letter_of, namesake_of, run_of, window_of
from soar.store.suppressions import BEHIND, PREFIX, read_all

# A lock is held from a run's first lease until it ends, and goes to the oldest that asks for it and is not paused. A
# run that is retried after its end asks anew: another may hold the lock by then, an older or a younger one.
_UNLOCKED = """(lock_key IS NULL OR locked OR NOT EXISTS (
    SELECT 1 FROM runs AS other WHERE other.lock_key = runs.lock_key
    AND other.state IN ('ready', 'running', 'waiting', 'needs_review')
    AND (other.locked OR (other.id < runs.id AND other.state = 'ready' AND NOT other.paused))))"""
_LEASABLE = f"state = 'ready' AND NOT paused AND {_UNLOCKED}"

LEASE = f"""
UPDATE runs SET state = 'running', epoch = epoch + 1, owner = ?, lease_until = ?, signalled = 0, wake_at = NULL,
    locked = lock_key IS NOT NULL
WHERE id IN (SELECT id FROM runs WHERE {_LEASABLE} ORDER BY priority DESC, id LIMIT ?)
RETURNING *
"""  # noqa: S608 - constants only

# The key that the engine gave a wait, "" where any alert may end it. Written as in the index, or that is not used.
_KEY = "coalesce(json_extract(record, '$.data.awaits'), '')"
_AWAITING = f"""
SELECT record FROM steps JOIN runs ON runs.id = run_id
WHERE awaits_alert = 1 AND {_KEY} = ? AND runs.state IN ('ready', 'running', 'waiting') AND NOT cancel_requested
"""  # noqa: S608 - constants only
_NEXT_KEY = f"SELECT min({_KEY}) FROM steps WHERE awaits_alert = 1 AND {_KEY} >= ?"  # noqa: S608 - constants only


def any_ready(db: sqlite3.Connection) -> bool:
    """Whether a worker would get anything."""
    sql = f"SELECT 1 FROM runs WHERE {_LEASABLE} LIMIT 1"  # noqa: S608 - constants only
    return db.execute(sql).fetchone() is not None


def known(db: sqlite3.Connection, keys: port.AdmissionKeys) -> port.Known:
    """What an admission must know."""
    coordinates = {
        key for key in keys.coordinates if db.execute("SELECT 1 FROM records WHERE coordinates = ?", (key,)).fetchone()
    }
    since = to_rfc3339(keys.uids_since)
    uids, repeats = {}, {}
    first = "SELECT id FROM alerts WHERE source = ? AND uid = ? AND received_at >= ? {}ORDER BY received_at LIMIT 1"
    for source, uid, content in keys.uids:
        row = db.execute(first.format(""), (source, uid, since)).fetchone()
        if row is None:
            continue
        uids[source, uid] = row["id"]
        row = db.execute(first.format("AND content = ? "), (source, uid, since, content)).fetchone()
        if row is not None:
            repeats[source, uid, content] = row["id"]
    now = to_rfc3339(keys.now)
    rows = (
        db.execute("SELECT * FROM windows WHERE key = ? AND until > ?", (key, now)).fetchone() for key in keys.windows
    )
    windows = {row["key"]: window_of(row) for row in rows if row is not None}
    waits = [
        StepRecord.model_validate_json(row[0])
        for key in ("", *sorted(keys.awaited(_awaited_fields(db))))
        for row in db.execute(_AWAITING, (key,))
    ]
    return port.Known(
        coordinates=frozenset(coordinates),
        uids=uids,
        repeats=repeats,
        windows=windows,
        waits=waits,
        suppressions=suppressions(db),
    )


def _awaited_fields(db: sqlite3.Connection) -> list[str]:
    """The fields that waits are kept under, each found by one step into the index."""
    fields: list[str] = []
    beyond = "0"  # the first character that a field in hex can begin with
    while (key := db.execute(_NEXT_KEY, (beyond,)).fetchone()[0]) is not None:
        fields.append(key.partition(":")[0])
        beyond = f"{fields[-1]};"  # the character after the colon: past all keys of this field
    return fields


def due(db: sqlite3.Connection, now: datetime, limit: int) -> list[Run]:
    """Waiting runs whose time has come."""
    sql = "SELECT * FROM runs WHERE state = 'waiting' AND wake_at <= ? ORDER BY wake_at LIMIT ?"
    return [run_of(row) for row in db.execute(sql, (to_rfc3339(now), limit))]


def expired_leases(db: sqlite3.Connection, now: datetime, limit: int, beyond: datetime | None) -> list[Run]:
    """Running runs whose lease ended before `now`, or ends after `beyond`."""
    sql = "SELECT * FROM runs WHERE state = 'running' AND (lease_until < ? OR lease_until > ?) LIMIT ?"
    return [run_of(row) for row in db.execute(sql, (to_rfc3339(now), to_rfc3339(beyond) if beyond else None, limit))]


def due_approvals(db: sqlite3.Connection, now: datetime, limit: int) -> list[Approval]:
    """Approvals whose time is over."""
    at = to_rfc3339(now)
    rows = db.execute(
        "SELECT approval FROM approvals WHERE (state = 'pending' AND decide_by <= ?) "
        "OR (state = 'granted' AND execute_by <= ?) LIMIT ?",
        (at, at, limit),
    )
    return [Approval.model_validate_json(row[0]) for row in rows]


def run(db: sqlite3.Connection, run_id: str) -> Run | None:
    """One run."""
    row = db.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
    return run_of(row) if row else None


def newest(db: sqlite3.Connection, table: str, filters: Mapping[str, str | None], limit: int) -> list[sqlite3.Row]:
    """Rows of a table, newest first, where the given columns have the given values."""
    given = {column: value for column, value in filters.items() if value is not None}
    where = " AND ".join(f"{column} = :{column}" for column in given) or "1"
    sql = f"SELECT * FROM {table} WHERE {where} ORDER BY id DESC LIMIT :limit"  # noqa: S608 - our own names
    return db.execute(sql, {**given, "limit": limit}).fetchall()


def steps(db: sqlite3.Connection, run_id: str) -> dict[str, StepRecord]:
    """A run's steps by path."""
    rows = db.execute("SELECT path, record FROM steps WHERE run_id = ?", (run_id,))
    return {row[0]: StepRecord.model_validate_json(row[1]) for row in rows}


def attempts(db: sqlite3.Connection, run_id: str) -> list[Attempt]:
    """A run's attempts."""
    rows = db.execute("SELECT attempt FROM attempts WHERE run_id = ? ORDER BY path, number", (run_id,))
    return [Attempt.model_validate_json(row[0]) for row in rows]


def approval(db: sqlite3.Connection, approval_id: str) -> Approval | None:
    """One approval."""
    row = db.execute("SELECT approval FROM approvals WHERE id = ?", (approval_id,)).fetchone()
    return Approval.model_validate_json(row[0]) if row else None


def alert_documents(db: sqlite3.Connection, alert_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Alerts' bodies by id, from the payloads of the entries that admitted them."""
    rows = db.execute(
        "SELECT alerts.id, body FROM json_each(?) AS wanted JOIN alerts ON alerts.id = wanted.value "
        "JOIN payloads USING (entry_id)",
        (json.dumps(list(alert_ids)),),
    )
    return {alert_id: json.loads(body)["alert"] for alert_id, body in rows}


def namesakes(db: sqlite3.Connection, alert_id: str, limit: int) -> list[Namesake]:
    """Alerts of the same source and uid that came before."""
    rows = db.execute(
        "SELECT other.id, other.outcome, other.received_at, other.content = mine.content AS repeats "
        "FROM alerts AS mine JOIN alerts AS other "
        "ON other.source = mine.source AND other.uid = mine.uid AND other.id < mine.id "
        "WHERE mine.id = ? ORDER BY repeats DESC, other.id DESC LIMIT ?",
        (alert_id, limit),
    )
    return [namesake_of(row) for row in rows]


def joined(db: sqlite3.Connection, run_id: str, span: tuple[datetime, datetime], limit: int) -> list[str]:
    """Alerts of this span that joined a run."""
    rows = db.execute(
        "SELECT alerts.id FROM alerts, json_each(matches) AS match WHERE alerts.id BETWEEN ? AND ? "
        "AND instr(matches, ?) AND match.value ->> 1 = 'correlated' AND match.value ->> 2 = ? "
        "GROUP BY alerts.id ORDER BY alerts.id LIMIT ?",
        (*(earliest("alert", at) for at in span), run_id, run_id, limit),
    )
    return [row[0] for row in rows]


def alert_row(db: sqlite3.Connection, alert_id: str) -> port.AlertRow | None:
    """One alert with its outcome."""
    row = db.execute("SELECT * FROM alerts WHERE id = ?", (alert_id,)).fetchone()
    return alert_row_of(row) if row else None


def alerts(db: sqlite3.Connection, filters: Mapping[str, str | None], limit: int) -> list[port.AlertRow]:
    """Alerts, newest first."""
    return [alert_row_of(row) for row in newest(db, "alerts", filters, limit)]


def dead_letters(db: sqlite3.Connection, limit: int, before: str | None) -> list[DeadLetter]:
    """Dead letters below an id, newest first."""
    sql = "SELECT * FROM dead_letters WHERE id < coalesce(?, '~') ORDER BY id DESC LIMIT ?"
    return [letter_of(row) for row in db.execute(sql, (before, limit))]


def playbook_text(db: sqlite3.Connection, digest: str) -> tuple[str, str] | None:
    """(file, text) of a pinned playbook."""
    row = db.execute("SELECT file, text FROM playbooks WHERE digest = ?", (digest,)).fetchone()
    return (row[0], row[1]) if row else None


def naming_key(db: sqlite3.Connection) -> str:
    """The key of names."""
    return str(db.execute("SELECT key FROM naming").fetchone()[0])


def control(db: sqlite3.Connection, key: str) -> str | None:
    """A switch's value."""
    row = db.execute("SELECT value FROM control WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def suppressions(db: sqlite3.Connection) -> list[Suppression]:
    """What people have alerts held back for."""
    rows = db.execute("SELECT value FROM control WHERE key >= ? AND key < ? ORDER BY key", (PREFIX, BEHIND))
    return read_all(row[0] for row in rows)


def action_counts(
    db: sqlite3.Connection, keys: Sequence[str], since: datetime, besides: tuple[str, str] | None
) -> dict[str, int]:
    """How many actions each key saw since."""
    sql = (
        "SELECT count(*) FROM (SELECT DISTINCT run_id, path FROM acted WHERE key = ? AND at >= ?) "
        "WHERE NOT (run_id = ? AND path = ?)"
    )
    run_id, path = besides or ("", "")
    return {key: db.execute(sql, (key, to_rfc3339(since), run_id, path)).fetchone()[0] for key in keys}


def targets_acted_on(db: sqlite3.Connection, kind: str, since: datetime, besides: Collection[str]) -> int:
    """How many targets of a type actions had since."""
    begin, behind = f"target:{kind}:", f"target:{kind};"  # the first key behind all of theirs
    sql = "SELECT DISTINCT key FROM acted WHERE at >= ? AND key > ? AND key < ?"
    found = {row[0].removeprefix(begin) for row in db.execute(sql, (to_rfc3339(since), begin, behind))}
    return len(found - set(besides))


def counts(db: sqlite3.Connection) -> Counts:
    """How much of everything there is."""

    def grouped(sql: str) -> dict[str, int]:
        return {row[0]: row[1] for row in db.execute(sql)}

    alerts_by_outcome = grouped("SELECT outcome, count(*) FROM alerts GROUP BY outcome")
    dead = db.execute("SELECT count(*) FROM dead_letters").fetchone()[0]
    if dead:
        alerts_by_outcome["dead_letter"] = dead
    return Counts(
        alerts=alerts_by_outcome,
        runs=grouped("SELECT state, count(*) FROM runs GROUP BY state"),
        actions=grouped("SELECT effect || '/' || state, count(*) FROM attempts GROUP BY effect, state"),
        approvals=grouped("SELECT state, count(*) FROM approvals GROUP BY state"),
        entries=db.execute("SELECT coalesce(max(size), 0) FROM tree").fetchone()[0],
    )


def entries(db: sqlite3.Connection, start: int, run_id: str | None, limit: int) -> list[EntryRow]:
    """A page of entries from `start` on."""
    of_run = "" if run_id is None else "AND run_id = :run_id "
    sql = (
        "SELECT entries.*, salt, body FROM entries LEFT JOIN payloads ON entry_id = id "  # noqa: S608 - constants only
        f"WHERE idx >= :start {of_run}ORDER BY idx LIMIT :limit"
    )
    return [entry_of(row) for row in db.execute(sql, {"start": start, "run_id": run_id, "limit": limit})]


def checkpoints(db: sqlite3.Connection, newest_only: int | None) -> list[str]:
    """Signed checkpoints, oldest first."""
    limit = -1 if newest_only is None else newest_only
    rows = db.execute(
        "SELECT coalesce(cosigned.text, checkpoints.text) FROM checkpoints LEFT JOIN cosigned USING (size)"
        " ORDER BY size DESC LIMIT ?",
        (limit,),
    ).fetchall()
    return [row[0] for row in reversed(rows)]


def cosigned(db: sqlite3.Connection) -> str | None:
    """The newest checkpoint that was kept with its witnesses' lines."""
    row = db.execute("SELECT text FROM cosigned ORDER BY size DESC LIMIT 1").fetchone()
    return row[0] if row else None


def hashes(db: sqlite3.Connection, level: int, start: int, count: int) -> list[bytes]:
    """Nodes of the tree."""
    leaves = "SELECT leaf_hash FROM entries WHERE idx >= :start ORDER BY idx LIMIT :count"
    nodes = "SELECT hash FROM subtrees WHERE level = :level AND idx >= :start ORDER BY idx LIMIT :count"
    rows = db.execute(nodes if level else leaves, {"level": level, "start": start, "count": count})
    return [row[0] for row in rows]
