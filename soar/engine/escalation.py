"""Requests that nobody decides: after a time, which the playbook gives, a further group may stand in.

The group's word counts from the instant in the request on, by every clock that reads the row: nothing has to be
switched, so nothing can be lost. The run is woken then to tell the journal, once.
"""

from __future__ import annotations

from soar.engine.context import Park, RunContext
from soar.model.approval import Approval
from soar.model.entry import EntryType
from soar.model.run import StepRecord
from soar.store.port import PutStep

_TOLD = "escalated"


async def wait_for_people(context: RunContext, record: StepRecord, approval: Approval) -> Park:
    """Tell of the escalation if its time has come; returns the Park to raise."""
    stand_in, escalates_at = approval.requirement.stand_in, approval.escalates_at
    if stand_in is None or escalates_at is None or record.data.get(_TOLD) == approval.id:
        return Park()
    if context.now() < escalates_at:
        return Park(escalates_at)
    told = context.entry(
        EntryType.APPROVAL_ESCALATED,
        approval.id,
        payload=stand_in.model_dump(mode="json"),
        data={"to": stand_in.group, "digest": approval.digest},
    )
    noted = record.model_copy(update={"data": {**record.data, _TOLD: approval.id}})
    await context.save(PutStep(record=noted), entries=(told,))
    context.records[noted.path] = noted
    return Park()
