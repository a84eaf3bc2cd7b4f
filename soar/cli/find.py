"""Things by their id, by its beginning or by its end: people copy the tail."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping

from soar.errors import InputError, NotFoundError
from soar.model.alert import DeadLetter
from soar.model.approval import Approval
from soar.model.run import Run
from soar.store.port import AlertRow, Store

NEWEST = 1000
"""Among so many of the newest a part of an id is looked for; a whole id is found however old it is."""

_TAIL_LEAST = 6
_NAMED = 5
_PAGE = 100


async def find_run(store: Store, name: str) -> Run:
    """One run; raises NotFoundError, and InputError for a part that several ids share."""
    run = await store.run(name)
    if run is not None:
        return run
    runs = {run.id: run for run in await store.runs(limit=NEWEST)}
    return runs[_pick("run", name, {run.id: f"{run.playbook_id}, {run.state}" for run in runs.values()})]


async def find_alert(store: Store, name: str) -> AlertRow:
    """One alert, or the one that the run of this name answers; raises as `find_run`."""
    if name.startswith("run-"):
        run = await find_run(store, name)
        if run.alert_id is None:
            raise NotFoundError(f"run {run.id} was not started by an alert")
        name = run.alert_id
    row = await store.alert_row(name)
    if row is not None:
        return row
    rows = {row.id: row for row in await store.alerts(limit=NEWEST)}
    return rows[_pick("alert", name, {row.id: f"{row.source}, {row.severity}" for row in rows.values()})]


async def find_approval(store: Store, name: str) -> Approval:
    """One approval; raises as `find_run`."""
    approval = await store.approval(name)
    if approval is not None:
        return approval
    found = {approval.id: approval for approval in await store.approvals(limit=NEWEST)}
    return found[_pick("approval", name, {a.id: f"{subject(a)}, {a.state}" for a in found.values()})]


async def find_letter(store: Store, name: str) -> DeadLetter:
    """One dead letter; raises as `find_run`."""
    at_most = await store.dead_letters(1, before=f"{name}~")  # itself, where there is one of just this name
    if at_most and at_most[0].id == name:
        return at_most[0]
    codes: dict[str, str] = {}
    async with contextlib.aclosing(pages_of_letters(store)) as pages:
        async for page in pages:
            codes |= {letter.id: letter.code for letter in page}
            if len(codes) >= NEWEST:
                break
    picked = _pick("dead letter", name, codes)
    return (await store.dead_letters(1, before=f"{picked}~"))[0]


async def pages_of_letters(store: Store) -> AsyncGenerator[list[DeadLetter], None]:
    """Dead letters, newest first, in pages that fit into memory however large records are."""
    page = await store.dead_letters(_PAGE)
    while page:
        yield page
        page = await store.dead_letters(_PAGE, before=page[-1].id)


def subject(approval: Approval) -> str:
    """What an approval is about, in one word."""
    return str(approval.binding.get("action", "question"))


def _pick(what: str, name: str, known: Mapping[str, str]) -> str:
    """The one id that begins or ends with `name`; `known` gives every id with a word about it."""
    wanted = name.strip().upper()
    found = [each for each in known if _named(each.upper(), wanted)]
    if len(found) == 1:
        return found[0]
    command = "`soar deadletters list`" if what == "dead letter" else f"`soar {what}s list`"
    if not found:
        raise NotFoundError(
            f"no {what} {name!r}: neither a whole id, nor the beginning or the last {_TAIL_LEAST} or more characters"
            f" of one of the newest {NEWEST}; {command} shows them"
        )
    some = "\n".join(f"  {each} ({known[each]})" for each in found[:_NAMED])
    more = f"\n  and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    raise InputError(f"{name!r} names {len(found)} {what}s; give more of the id:\n{some}{more}")


def _named(name: str, wanted: str) -> bool:
    bare = name.partition("-")[2]
    begins = bool(wanted) and (name.startswith(wanted) or bare.startswith(wanted))
    return begins or (len(wanted) >= _TAIL_LEAST and name.endswith(wanted))
