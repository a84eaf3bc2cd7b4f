"""Between table rows and the vocabulary."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from typing import Any

from soar.model.alert import DeadLetter, Outcome, Record
from soar.model.base import from_rfc3339, to_json, to_rfc3339
from soar.model.run import Run, RunKind, RunState
from soar.store.matches import AlertMatch, Namesake
from soar.store.port import AlertRow, Window
from soar.store.seen import EntryRow


def when(moment: datetime | None) -> str | None:
    """A time as its column holds it."""
    return None if moment is None else to_rfc3339(moment)


def moment(text: str | None) -> datetime | None:
    """The inverse of `when`."""
    return None if text is None else from_rfc3339(text)


def matches_text(matches: tuple[AlertMatch, ...]) -> str:
    """Matches as their column holds them."""
    return to_json([m.as_row() for m in matches]) if matches else "[]"


def letter_of(row: sqlite3.Row) -> DeadLetter:
    """A dead letter from its row."""
    record = Record.model_validate_json(row["record"])
    return DeadLetter(id=row["id"], record=record, code=row["code"], reason=row["reason"], at=from_rfc3339(row["at"]))


def run_values(run: Run) -> dict[str, Any]:
    """Column values of a new run."""
    return {
        "id": run.id,
        "kind": run.kind,
        "state": run.state,
        "playbook_id": run.playbook_id,
        "playbook_digest": run.playbook_digest,
        "alert_id": run.alert_id,
        "parent_run_id": run.parent_run_id,
        "parent_path": run.parent_path,
        "vars": to_json(run.vars),
        "priority": run.priority,
        "lock_key": run.lock_key,
        "depth": run.depth,
        "epoch": run.epoch,
        "wake_at": when(run.wake_at),
        "outputs": to_json(run.outputs),
        "created_at": to_rfc3339(run.created_at),
    }


def run_of(row: sqlite3.Row) -> Run:
    """A run from its row."""
    return Run(
        id=row["id"],
        kind=RunKind(row["kind"]),
        state=RunState(row["state"]),
        playbook_id=row["playbook_id"],
        playbook_digest=row["playbook_digest"],
        alert_id=row["alert_id"],
        parent_run_id=row["parent_run_id"],
        parent_path=row["parent_path"],
        vars=json.loads(row["vars"]),
        priority=row["priority"],
        lock_key=row["lock_key"],
        depth=row["depth"],
        epoch=row["epoch"],
        owner=row["owner"],
        lease_until=moment(row["lease_until"]),
        wake_at=moment(row["wake_at"]),
        cancel_requested=bool(row["cancel_requested"]),
        paused=bool(row["paused"]),
        outputs=json.loads(row["outputs"]),
        error=row["error"],
        created_at=from_rfc3339(row["created_at"]),
        finished_at=moment(row["finished_at"]),
    )


def alert_row_of(row: sqlite3.Row) -> AlertRow:
    """An alert, as lists show it, from its row."""
    return AlertRow(
        id=row["id"],
        source=row["source"],
        title=row["title"],
        severity=row["severity"],
        rule_id=row["rule_id"],
        rule_name=row["rule_name"],
        outcome=Outcome(row["outcome"]),
        matches=tuple(AlertMatch.of_row(match) for match in json.loads(row["matches"])),
        time=from_rfc3339(row["time"]),
        received_at=from_rfc3339(row["received_at"]),
        coordinates=row["coordinates"],
    )


def namesake_of(row: sqlite3.Row) -> Namesake:
    """An alert of the same name from its row."""
    return Namesake(
        id=row["id"],
        outcome=Outcome(row["outcome"]),
        received_at=from_rfc3339(row["received_at"]),
        repeats=bool(row["repeats"]),
    )


def window_of(row: sqlite3.Row) -> Window:
    """A dedupe window from its row."""
    return Window(
        key=row["key"],
        started_at=from_rfc3339(row["started_at"]),
        until=from_rfc3339(row["until"]),
        count=row["count"],
        run_id=row["run_id"],
    )


def entry_of(row: sqlite3.Row) -> EntryRow:
    """An entry with its payload, if it still has one."""
    return EntryRow(
        index=row["idx"],
        id=row["id"],
        type=row["type"],
        at=from_rfc3339(row["at"]),
        run_id=row["run_id"],
        leaf=row["leaf"],
        leaf_hash=row["leaf_hash"],
        salt=row["salt"],
        payload=row["body"],
    )
