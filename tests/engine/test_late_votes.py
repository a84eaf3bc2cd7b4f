"""Time decides, also before the timekeeper has come by to say so."""

from datetime import timedelta

import pytest

from soar.engine.approvals import ApprovalDesk
from soar.engine.scribe import Scribe
from soar.errors import StateConflictError
from soar.model.clock import UlidSource

from .house import House, TestClock, ask

STEPS = 'steps:\n  - {id: isolate, use: host.isolate, with: {host: "${{ alert.raw.host }}"}}\n'


@pytest.mark.parametrize("decision", ["grant", "deny"])
async def test_a_vote_after_its_time_is_refused_though_nobody_has_closed_the_request(
    house: House, decision: str
) -> None:
    house.policy(ask("soc-lead", ttl="30m"))
    house.playbook(STEPS)
    await house.start()
    await house.go(host="ws-17")
    approval = await house.pending()
    clock = TestClock()
    clock.offset = timedelta(minutes=30)
    desk = ApprovalDesk(
        store=house.store,
        scribe=Scribe(clock=clock, ids=UlidSource()),
        people=house.service.people,
        authority=house.service.authority,
    )
    with pytest.raises(StateConflictError, match="expired"):
        await desk.vote(approval.id, person="alice", decision=decision, method="cli", digest=approval.digest)
    assert (await house.pending()) == approval
    assert house.sent() == []
