"""Erasing what the database knows of somebody; see `soar.store.erasure`.

Names are looked for here and not by the server: in any case means the same for every store, whatever its locale.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

from soar.errors import StoreError
from soar.model.base import to_json
from soar.model.entry import Entry
from soar.model.run import FINAL_STATES
from soar.store.erasure import ERASED, FREE, NAMES, TEXTS, Subject, Touched, consider, content_named, without
from soar.store.port import Fact
from soar.store.postgres.batch import write_together
from soar.store.postgres.connect import Db, OvertakenError
from soar.store.postgres.database import Done
from soar.store.postgres.owner import require_owner
from soar.store.postgres.rows import array, digest_of
from soar.store.postgres.sql import statements
from soar.store.postgres.tip import Tip

_PAGE = 500


async def touched(db: Db, value: str) -> Touched:
    """What `erase` would take, at one moment."""
    async with db.transaction(isolation="repeatable_read", readonly=True):
        return await _found(db, Subject(value))


async def erase(db: Db, value: str, tell: Callable[[str], Entry], *, elsewhere: Sequence[Entry] = ()) -> Done[Touched]:
    """Take it all, and tell the journal of each payload; inside the caller's transaction."""
    await require_owner(db, "erasing")
    subject = Subject(value)
    found = await _found(db, subject)
    consider(found, elsewhere)
    await _hold(db, found)
    await _unname(db, subject, found)
    await db.execute("DELETE FROM payloads WHERE entry_id = ANY ($1::text[])", array(found.entries))
    await _blank(db, subject)
    told = (*(tell(each) for each in found.entries), *elsewhere)
    return await append(db, told, found)


async def append(db: Db, told: Sequence[Entry], result: Any) -> Done[Any]:
    """Append these entries to the journal, inside the caller's transaction."""
    done = await write_together(db, [Fact(entries=tuple(told))], Tip())
    for refusal in done.result:
        if isinstance(refusal, StoreError):
            raise refusal
    return Done(result=result, xid=done.xid, entry_id=done.entry_id)


async def _hold(db: Db, found: Touched) -> None:
    """Keep the runs as they were found: one that is retried meanwhile needs its state."""
    rows = await db.fetch(statements("writes.sql")["lock_runs"], array(sorted(found.runs)))
    if any(row["state"] not in FINAL_STATES for row in rows):
        raise OvertakenError("a run was taken up again")


async def _found(db: Db, subject: Subject) -> Touched:
    tells = subject.named_in
    entries, told = await _payloads(db, subject)
    of_runs = {run_id for run_id in entries.values() if run_id}
    for table, column in (("steps", "record"), ("attempts", "attempt"), ("approvals", "approval")):
        of_runs |= {run_id async for run_id, text in _rows(db, f"SELECT run_id, {column} FROM {table}") if tells(text)}  # noqa: S608
    alerts, of_alerts = 0, set()
    async for name, entry_id, *texts in _rows(
        db, "SELECT id, entry_id, title, uid, coordinates, rule_id, rule_name FROM alerts"
    ):
        if entry_id in entries:
            of_alerts.add(name)
        alerts += entry_id in entries or any(map(tells, texts))
    all_runs = _rows(db, "SELECT id, state, alert_id, vars, outputs, error, lock_key FROM runs ORDER BY id")
    runs = {
        name: state
        async for name, state, alert_id, *texts in all_runs
        if name in of_runs or alert_id in of_alerts or any(map(tells, texts))
    }
    return Touched(
        entries=tuple(entries),
        alerts=alerts,
        runs=tuple(runs),
        open_runs=tuple(name for name, state in runs.items() if state not in FINAL_STATES),
        dead_letters=sum(
            [
                subject.named_in_record(record) or tells(reason) or tells(coordinates)
                async for record, reason, coordinates in _rows(
                    db, "SELECT record, reason, coordinates FROM dead_letters"
                )
            ]
        ),
        other=sum([tells(text) async for (text,) in _rows(db, _ELSEWHERE)]),
        leaves=tuple(told),
        playbooks=tuple(
            sorted({file async for file, text in _rows(db, "SELECT file, text FROM playbooks") if tells(text)})
        ),
    )


_ELSEWHERE = """
SELECT key FROM windows UNION ALL SELECT key FROM acted UNION ALL SELECT coordinates FROM records
UNION ALL SELECT value FROM control
"""


async def _payloads(db: Db, subject: Subject) -> tuple[dict[str, str | None], list[str]]:
    """Entries whose payload tells of them, with their run; and those whose leaf does."""
    entries: dict[str, str | None] = {}
    leaves = []
    query = "SELECT id, run_id, leaf, body FROM entries LEFT JOIN payloads ON entry_id = id ORDER BY idx"
    async for name, run_id, leaf, body in _rows(db, query):
        if subject.named_in(body):
            entries[name] = run_id
        if subject.named_in(leaf):
            leaves.append(name)
    return entries, leaves


async def _unname(db: Db, subject: Subject, found: Touched) -> None:
    """Take away the names that were made of what goes, by which it could be recognised."""
    gone = frozenset(found.entries)
    query = "SELECT id, entry_id, title, uid, coordinates, rule_id, rule_name FROM alerts"
    alerts = [
        (row["id"], row["coordinates"])
        async for row in _rows(db, query)
        if row["entry_id"] in gone or any(map(subject.named_in, tuple(row)[2:]))
    ]
    for alert_id, coordinates in alerts:
        new = f"{ERASED} {secrets.token_hex(16)}"
        await db.execute("UPDATE alerts SET content = '' WHERE id = $1", alert_id)
        await db.execute("UPDATE alerts SET uid = $2 WHERE id = $1 AND starts_with(uid, 'sha256:')", alert_id, new)
        if content_named(coordinates):
            await db.execute("UPDATE alerts SET coordinates = $2 WHERE coordinates = $1", coordinates, new)
            await db.execute("UPDATE dead_letters SET coordinates = $2 WHERE coordinates = $1", coordinates, new)
            sql = "UPDATE records SET coordinates = $3, digest = $4 WHERE digest = $1 AND coordinates = $2"
            await db.execute(sql, digest_of(coordinates), coordinates, new, digest_of(new))
    runs = array(found.runs)
    await db.execute("UPDATE runs SET lock_key = $2 WHERE id = ANY ($1::text[]) AND lock_key IS NOT NULL", runs, ERASED)
    await db.execute("DELETE FROM windows WHERE run_id = ANY ($1::text[])", runs)


async def _blank(db: Db, subject: Subject) -> None:
    """Blank the working state. The names of tables and columns are our own."""
    tells = subject.named_in
    for table, column, _, free in FREE:
        await _change(db, table, column, tells, partial(_blanked, free=free, subject=subject))
    for table, column in TEXTS:
        await _change(db, table, column, tells, lambda _: ERASED)
    for table, column in NAMES:
        await _change(db, table, column, tells, lambda _: f"{ERASED} {secrets.token_hex(16)}")
    await _change(db, "control", "value", tells, lambda _: ERASED)
    await _delete(db, "windows", "key", tells)
    await _delete(db, "acted", "key", tells)
    # A record is one piece: what is left of it without them would be another one.
    await _delete(db, "dead_letters", "record", subject.named_in_record)
    await _delete(db, "dead_letters", "reason", tells)


def _blanked(text: str, *, free: tuple[tuple[str, ...], ...], subject: Subject) -> str:
    return to_json(without(json.loads(text), free, subject))


async def _change(db: Db, table: str, column: str, tells: Callable[[str], bool], changed: Callable[[str], str]) -> None:
    digest = ", digest = $4" if table == "records" else ""  # of the coordinates: it would still know them
    for place, text in await _places(db, table, column, tells):
        new = changed(text)
        more = [digest_of(new)] if digest else []
        sql = f"UPDATE {table} SET {column} = $3{digest} WHERE ctid = $1 AND {column} = $2"  # noqa: S608
        _done(await db.execute(sql, place, text, new, *more))


async def _delete(db: Db, table: str, column: str, tells: Callable[[str], bool]) -> None:
    for place, text in await _places(db, table, column, tells):
        _done(await db.execute(f"DELETE FROM {table} WHERE ctid = $1 AND {column} = $2", place, text))  # noqa: S608


async def _places(db: Db, table: str, column: str, tells: Callable[[str], bool]) -> list[tuple[Any, str]]:
    rows = _rows(db, f"SELECT ctid, {column} FROM {table}")  # noqa: S608
    return [(place, text) async for place, text in rows if text is not None and tells(text)]


def _done(answer: str) -> None:
    if not answer.endswith(" 1"):
        raise OvertakenError("a row was changed while it was being erased")


async def _rows(db: Db, query: str) -> AsyncIterator[Any]:
    async for row in db.cursor(query, prefetch=_PAGE):
        yield row
