"""Saying which policy revision shall be in force: one row that all workers follow, and an entry that tells who did."""

from __future__ import annotations

import orjson

from soar.engine.recorder import record_alone
from soar.engine.scribe import Scribe
from soar.errors import InputError
from soar.model.base import Frozen
from soar.model.entry import EntryType
from soar.store.port import Fact, SetControl, Store

PROMOTED = "policy"


class Promoted(Frozen):
    """The row: a revision and who wants it; `id` tells one promotion from the next of the same revision."""

    id: str
    revision: str
    by: str


async def promoted(store: Store) -> Promoted | None:
    """What was promoted last; None where nothing ever was. Raises StoreUnavailableError."""
    row = await store.control(PROMOTED)
    return None if row is None else Promoted.model_validate(orjson.loads(row))


async def promote(store: Store, scribe: Scribe, *, person: str, revision: str, reason: str) -> Promoted | None:
    """Want a revision in force; returns what was wanted before.

    Raises InputError without a reason, StoreUnavailableError. Workers check it themselves before they follow.
    """
    if not reason.strip():
        raise InputError("a promotion needs a reason; give one with --reason")
    before = await promoted(store)
    wanted = Promoted(id=scribe.ids.new("promotion"), revision=revision, by=f"person:{person}")
    told = scribe.acting_as(wanted.by).entry(
        EntryType.POLICY_PROMOTED,
        revision,
        payload={"reason": reason},
        data={"promotion": wanted.id, "was": before.revision if before else ""},
    )
    row = SetControl(key=PROMOTED, value=wanted.model_dump_json())
    await record_alone(store, Fact(writes=(row,), entries=(told,)))
    return before
