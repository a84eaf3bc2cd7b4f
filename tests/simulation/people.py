"""The people of a seed: they decide, they meddle, and at the end they clean up: through the CLI's own doors."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from soar.engine.scribe import Scribe
from soar.errors import InputError, NotAllowedError, NotFoundError, StateConflictError, StoreUnavailableError
from soar.model.approval import Approval, ApprovalState
from soar.model.run import Run, RunState, StepState
from soar.store.port import Store

from .service import control, desk
from .world import SimClock, Trace, World

REFUSALS = (InputError, NotAllowedError, NotFoundError, StateConflictError)
SURE_AFTER = timedelta(seconds=35)
"""Longer than from an intent to the end of its call: only then can anybody see that a thing did not happen."""


@dataclass(eq=False)
class Crowd:
    """Several people at one keyboard."""

    store: Store
    scribe: Scribe
    clock: SimClock
    world: World
    trace: Trace
    random: Random
    meddling: float

    async def live(self) -> None:
        """Act now and then, for ever."""
        while True:
            await asyncio.sleep(0.2 + self.random.random())
            await self.attempt(self.act)

    async def attempt(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do something that may be refused."""
        try:
            await act()
        except REFUSALS as refusal:
            self.trace.tell("person refused", why=type(refusal).__name__)
        except StoreUnavailableError:
            self.trace.tell("person found no store")

    async def act(self) -> None:
        """Decide on what waits; or meddle."""
        pending = await self.store.approvals(state=ApprovalState.PENDING)
        if pending and self.random.random() < 0.7:
            await self.decide(self.random.choice(pending))
        elif self.random.random() < self.meddling:
            await self._meddle()
        else:
            await self.review()

    async def decide(self, approval: Approval, *, kindly: bool = False) -> None:
        """One person's word; unless `kindly`, also that of people who may not, or about other bytes."""
        person = self.random.choice(["alice", "bob", "carol"] if kindly else ["alice", "bob", "bob", "carol", "olga"])
        decision = "grant" if kindly or self.random.random() < 0.85 else "deny"
        answer = True if approval.binding.get("answer") == "boolean" and decision == "grant" else None
        wrong = not kindly and self.random.random() < 0.1
        self.trace.tell("person votes", person=person, decision=decision, approval=approval.id)
        await desk(self.store, self.scribe).vote(
            approval.id, person=person, decision=decision, method="cli", answer=answer,
            digest="0" * 64 if wrong else approval.digest,
        )  # fmt: skip

    async def review(self) -> None:
        """Say what happened to actions of unknown outcome: the truth, once it can be known."""
        runs = await self.store.runs(state=RunState.NEEDS_REVIEW)
        if not runs:
            return
        for path in await self.knowable(run := self.random.choice(runs)):
            happened = self.world.happened(run.id, path)
            self.trace.tell("person resolves", run=run.id, path=path, happened=happened)
            await control(self.store, self.scribe, "alice").resolve(run.id, happened=happened, reason="seen", path=path)
            return

    async def knowable(self, run: Run) -> list[str]:
        """Unknown steps of which nothing can be on its way any more."""
        unknown = [path for path, step in (await self.store.steps(run.id)).items() if step.state is StepState.UNKNOWN]
        last = {attempt.path: attempt.intended_at for attempt in await self.store.attempts(run.id)}
        now = self.clock.now()
        return [
            path
            for path in sorted(unknown)
            if not self.world.in_flight[run.id, path] and now - last.get(path, now) > SURE_AFTER
        ]

    async def _meddle(self) -> None:
        hands = control(self.store, self.scribe, "alice")
        if self.random.random() < 0.25:
            halted = await self.store.control("halt")
            self.trace.tell("person halts" if halted is None else "person resumes")
            await (hands.halt(reason="wait") if halted is None else hands.resume(reason="go on"))
            return
        runs = sorted(await self.store.runs(), key=lambda run: run.id)
        if not runs:
            return
        run = self.random.choice(runs)
        what = self.random.choice(["cancel", "pause", "release", "retry", "retry", "skip", "undo", "undo"])
        self.trace.tell("person meddles", what=what, run=run.id, state=run.state.value)
        match what:
            case "cancel":
                await hands.cancel(run.id, reason="enough")
            case "pause":
                await hands.pause(run.id, reason="wait")
            case "release":
                await hands.release(run.id, reason="go on")
            case "retry":
                await hands.retry(run.id, reason="once more")
            case "skip":
                open_ = {StepState.FAILED, StepState.DENIED, StepState.WAITING, StepState.UNKNOWN}
                steps = await self.store.steps(run.id)
                paths = sorted(path for path, step in steps.items() if step.state in open_)
                if paths:
                    await hands.skip(run.id, self.random.choice(paths), reason="not needed")
            case _:
                await hands.undo(run.id)

    async def tidy(self) -> None:
        """One thing that is left for people to do at the end."""
        hands = control(self.store, self.scribe, "alice")
        if await self.store.control("halt") is not None:
            await hands.resume(reason="all is well")
            return
        for run in sorted(await self.store.runs(limit=1000), key=lambda run: run.id):
            if run.paused:
                await hands.release(run.id, reason="all is well")
                return
        pending = await self.store.approvals(state=ApprovalState.PENDING)
        if pending:
            await self.decide(min(pending, key=lambda each: each.id), kindly=True)
        else:
            await self.review()
