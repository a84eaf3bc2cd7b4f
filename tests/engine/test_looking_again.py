"""What one look at a run leaves behind, for the next look at it and for the runs that were leased with it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from soar.errors import StoreError
from soar.model.approval import Approval, ApprovalState
from soar.model.run import RunState
from soar.store.port import Fact, InsertApproval, Store

from .house import House, ask

LOOKUP = "{id: first, use: ioc.lookup, with: {type: ip, value: 203.0.113.66}}"
# While one branch asks, the other still has something to do: so the run is cancelled in its first lease.
ASKED = f"""steps:
  - {LOOKUP}
  - parallel:
      - {{id: isolate, use: host.isolate, with: {{host: ws-17}}}}
      - if: alert.id
        then:
          - {{use: ioc.lookup, with: {{type: ip, value: 203.0.113.67}}}}
          - {{use: ticket.comment, with: {{key: NONE-1, text: x}}}}
"""


class Around:
    """A store, and what a test does beside it."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self.when_asked: Callable[[str], Awaitable[None]] | None = None
        self.when_read: Callable[[Approval], Awaitable[None]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def alert_documents(self, ids: set[str]) -> Any:
        self.asked.set()
        await self.go_on.wait()
        return await self._inner.alert_documents(ids)

    async def commit(self, facts: Sequence[Fact]) -> list[StoreError | None]:
        done = await self._inner.commit(facts)
        asks = [fact for fact in facts if any(isinstance(write, InsertApproval) for write in fact.writes)]
        if asks and self.when_asked is not None:
            then, self.when_asked = self.when_asked, None
            assert asks[0].lease is not None
            await then(asks[0].lease.run_id)
        return done

    async def approvals(self, **which: Any) -> list[Approval]:
        found = await self._inner.approvals(**which)
        if found and which.get("run_id") and self.when_read is not None:
            then, self.when_read = self.when_read, None
            await then(found[0])
        return found


def surround(house: House) -> list[Around]:
    around: list[Around] = []

    def wrap(store: Store) -> Any:
        around.append(Around(store))
        return around[0]

    house.wrap = wrap
    return around


async def test_a_run_that_is_taken_away_leaves_those_that_were_leased_with_it_alone(house: House) -> None:
    house.playbook(f"steps:\n  - {LOOKUP}\n")
    around = surround(house)
    await house.start()
    await house.running.admit([house.record() for _ in range(5)])
    await around[0].asked.wait()
    active = house.running.worker._active
    while len(active) < 5:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)  # until all of them wait for what the first asked for
    next(iter(active.values())).cancel()
    await asyncio.sleep(0)
    around[0].go_on.set()
    while sum(run.state is RunState.SUCCEEDED for run in await house.store.runs()) < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert sum(run.epoch == 1 for run in await house.store.runs()) == 5


async def test_the_second_look_in_a_first_lease_knows_what_the_first_recorded(house: House) -> None:
    """Cancelled, and voted on between reading what is asked and closing it: nobody is left with an open question."""
    house.policy(ask("soc-lead").replace('"min": 1', '"min": 2'))
    house.people(alice="soc-lead", bob="soc-lead")
    house.playbook(ASKED)
    around = surround(house)
    await house.start()
    around[0].go_on.set()
    desk = house.service.desk(lambda: None)

    async def vote(approval: Approval) -> None:
        await desk.vote(approval.id, person="alice", decision="grant", method="cli", digest=approval.digest)

    async def cancel(run_id: str) -> None:
        around[0].when_read = vote
        await house.control().cancel(run_id, reason="a false alarm")

    around[0].when_asked = cancel
    run = await house.go(host="ws-17")
    assert (run.state, run.epoch) == (RunState.CANCELLED, 1)
    (approval,) = await house.store.approvals(run_id=run.id)
    assert approval.votes, "the vote came in between"
    assert approval.state is not ApprovalState.PENDING
    assert (await house.verify()).ok
