"""Admission: what is read is held still until what was decided from it commits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from soar.model.run import RunState, StepState
from soar.store import port
from soar.store.postgres import reads
from soar.store.postgres.batch import Batch
from soar.store.postgres.connect import Db, OvertakenError, RefusedError
from soar.store.postgres.database import Done
from soar.store.postgres.sheet import Held
from soar.store.postgres.sql import statements
from soar.store.postgres.tip import Tip

_OPEN = frozenset({RunState.READY, RunState.RUNNING, RunState.WAITING})


async def admit(
    db: Db, keys: port.AdmissionKeys, decide: Callable[[port.Known], port.Fact], tip: Tip
) -> Done[port.Fact]:
    """Claim, read, decide, write. Whoever claims one of the same names waits for our end, and then sees what we did."""
    sql = statements("writes.sql")
    claims = _claims(keys)
    await db.execute(sql["claim"], claims)
    known, xid = await reads.known(db, keys)
    fact = decide(known)
    batch = Batch([fact])
    await batch.load(db, xid=xid)
    _refuse_stale(batch, fact)
    if refusal := (await batch.apply())[0]:
        raise RefusedError(refusal)
    await batch.flush(db, tip, unclaim=claims)
    return Done(result=fact, xid=batch.xid, entry_id=batch.entry_id, wakes=batch.wakes)


def _claims(keys: port.AdmissionKeys) -> list[int]:
    """One number for each name. Two names with one number only wait for each other needlessly."""
    names = [f"record\n{each}" for each in keys.coordinates]
    names += [f"alert\n{source}\n{uid}" for source, uid, _ in keys.uids]
    names += [f"window\n{each}" for each in keys.windows]
    return [_number(name) for name in names]


def _number(name: str) -> int:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _refuse_stale(batch: Batch, fact: port.Fact) -> None:
    """Waits are read without a lock, or one waiting run would make all admissions wait for each other.

    So now that their runs are locked, raise OvertakenError where a wait that `fact` ends was over already.
    """
    for write in fact.writes:
        if not isinstance(write, port.PutStep):
            continue
        run = batch.sheet.run(write.record.run_id)
        step: Held | None = batch.sheet.get("steps", write.record.run_id, write.record.path)
        if run is None or step is None:
            continue
        if run.state not in _OPEN or run.cancel_requested or step.state != StepState.WAITING:
            raise OvertakenError(f"step {write.record.path} of run {run.id} no longer waits")
