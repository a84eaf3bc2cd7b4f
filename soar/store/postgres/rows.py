"""Between table rows and the vocabulary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from asyncpg import Record as Row

from soar.model.action import Attempt
from soar.model.alert import DeadLetter, Outcome, Record
from soar.model.base import to_json
from soar.model.run import Run
from soar.store.matches import AlertMatch, Namesake
from soar.store.port import AlertRow, InsertAlert, Window
from soar.store.seen import EntryRow

_ESCAPE = "\x01"
_NUL = "\x01\x02"


def to_text(text: str) -> bytes:
    """The bytes of a text column. PostgreSQL refuses U+0000, which attackers send: it goes in as U+0001 U+0002."""
    return _escaped(text).encode()


def from_text(raw: bytes) -> str:
    """The inverse of `to_text`."""
    text = raw.decode()
    if _ESCAPE not in text:
        return text
    return _ESCAPE.join(part.replace(_NUL, "\x00") for part in text.split(_ESCAPE * 2))


def _escaped(text: str) -> str:
    if _ESCAPE not in text and "\x00" not in text:
        return text
    return text.replace(_ESCAPE, _ESCAPE * 2).replace("\x00", _NUL)


def array(values: Iterable[Any]) -> list[Any]:
    """One array argument. Scalars go through the connection's codec; the elements of arrays do not."""
    return [_escaped(value) if isinstance(value, str) else value for value in values]


def columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows as one array per column."""
    return [array(column) for column in zip(*rows, strict=True)]


def digest_of(text: str) -> bytes:
    """A fixed-size key for text of any length."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class RunRow(NamedTuple):
    """The columns of a run that change. `outputs` None: as it was."""

    id: str
    state: str
    epoch: int
    owner: str | None = None
    lease_until: datetime | None = None
    wake_at: datetime | None = None
    signalled: bool = False
    locked: bool = False
    cancel_requested: bool = False
    outputs: str | None = None
    error: str | None = None
    finished_at: datetime | None = None
    paused: bool = False


class RunOrigin(NamedTuple):
    """The columns of a run that never change, in the order of the statement `new_runs`."""

    kind: str
    playbook_id: str
    playbook_digest: str
    alert_id: str | None
    parent_run_id: str | None
    parent_path: str | None
    vars: str
    priority: int
    lock_key: str | None
    depth: int
    created_at: datetime


def run_rows(run: Run) -> tuple[RunRow, RunOrigin]:
    """A new run as its two halves."""
    moving = RunRow(run.id, run.state, run.epoch, wake_at=run.wake_at, outputs=to_json(run.outputs))
    fixed = RunOrigin(
        run.kind,
        run.playbook_id,
        run.playbook_digest,
        run.alert_id,
        run.parent_run_id,
        run.parent_path,
        to_json(run.vars),
        run.priority,
        run.lock_key,
        run.depth,
        run.created_at,
    )
    return moving, fixed


def run_of(row: Row) -> Run:
    """A run from its row."""
    values = dict(row)
    del values["signalled"], values["locked"]
    values |= {"vars": json.loads(row["vars"]), "outputs": json.loads(row["outputs"])}
    return Run(**values)


def alert_values(write: InsertAlert) -> tuple[Any, ...]:
    """The columns of an alert."""
    alert = write.alert.body
    return (
        alert["id"],
        alert["uid"],
        alert["source"],
        write.coordinates,
        write.content,
        alert["title"],
        alert["severity"],
        alert["rule"]["id"],
        alert["rule"]["name"],
        write.outcome,
        to_json([m.as_row() for m in write.matches]),
        write.alert.time,
        write.alert.received_at,
        write.entry_id,
    )


def alert_row_of(row: Row) -> AlertRow:
    """An alert, as lists show it, from its row."""
    values = {name: row[name] for name in AlertRow.__slots__}
    values["outcome"] = Outcome(row["outcome"])
    values["matches"] = tuple(AlertMatch.of_row(match) for match in json.loads(row["matches"]))
    return AlertRow(**values)


def namesake_of(row: Row) -> Namesake:
    """An alert of the same name from its row."""
    return Namesake(**{**row, "outcome": Outcome(row["outcome"])})


def attempt_values(attempt: Attempt) -> tuple[Any, ...]:
    """The columns of an attempt."""
    effect = attempt.request.effect
    return (attempt.run_id, attempt.path, attempt.number, attempt.state, effect, attempt.text())


def window_of(row: Row) -> Window:
    """A dedupe window from its row."""
    return Window(**dict(row))


def letter_values(letter: DeadLetter) -> tuple[Any, ...]:
    """The columns of a dead letter."""
    record = letter.record
    return (letter.id, record.coordinates, letter.code, letter.reason, letter.at, record.model_dump_json())


def letter_of(row: Row) -> DeadLetter:
    """A dead letter from its row."""
    record = Record.model_validate_json(row["record"])
    return DeadLetter(id=row["id"], record=record, code=row["code"], reason=row["reason"], at=row["at"])


def entry_of(row: Row) -> EntryRow:
    """An entry with its payload, if it still has one."""
    index, entry_id, kind, at, run_id, leaf, leaf_hash, salt, payload = row
    return EntryRow(
        index=index,
        id=entry_id,
        type=kind,
        at=at,
        run_id=run_id,
        leaf=leaf,
        leaf_hash=leaf_hash,
        salt=salt,
        payload=payload,
    )
