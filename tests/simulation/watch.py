"""Looks at each call in the instant in which it leaves, and at what is durable just then."""

from datetime import timedelta
from typing import Any

from soar.connector.base import Call
from soar.model.action import ActionRequest, Attempt, AttemptState, Effect
from soar.model.run import RunState
from soar.store.port import Store

from .loop import SimLoop
from .world import SimClock

SEND_WITHIN = timedelta(seconds=10)
"""What is promised of a call whose run was taken away meanwhile: its intent is no older."""
ONCE = frozenset({Effect.UNSAFE, Effect.VERIFIABLE})


class Watch:
    """Collects what no call may do."""

    def __init__(self, loop: SimLoop, clock: SimClock, store: Store) -> None:
        self.violations: list[str] = []
        self._loop, self._clock, self._store = loop, clock, store

    def call(self, request: ActionRequest, call: Call) -> None:
        """Hold one call against the store, as it stands in this instant."""
        wrong = self._wrong(request, call)
        if wrong:
            what = f"{request.verb} of {call.path} in {call.run_id}"
            self.violations.append(f"at {self._loop.time():.4f} a call left that must not: {what}: {wrong}")

    def _wrong(self, request: ActionRequest, call: Call) -> str | None:
        tries = [each for each in self._read(self._store.attempts(call.run_id)) if each.path == call.path]
        if not tries:
            return "no intent is durable"
        run = self._read(self._store.run(call.run_id))
        last: Attempt = tries[-1]
        ours = run.state is RunState.RUNNING and last.epoch == run.epoch
        if ours and last.state is not AttemptState.INTENDED:
            return f"its last intent, number {last.number}, is {last.state} already"
        mine = [each for each in tries if self._clock.now() - each.intended_at <= SEND_WITHIN]
        if not mine:
            return f"its last intent is of {last.intended_at:%H:%M:%S}, now it is {self._clock.now():%H:%M:%S}"
        if last.request.idempotency_key != call.idempotency_key:
            return "its key is not that of its intent"
        before = tries[:-1] if ours else tries[: tries.index(mine[0])]
        open_ = [each for each in before if each.state is not AttemptState.FAILED]
        if request.effect in ONCE and open_:
            return f"try {open_[0].number} stands {open_[0].state}, and twice is twice"
        return None

    def _read(self, coro: Any) -> Any:
        return self._loop.immediately(coro)
