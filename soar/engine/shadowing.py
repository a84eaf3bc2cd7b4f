"""A candidate policy beside the live one: asked the same a moment later, journalled only where it differs.

Nothing waits for it. What comes while it is busy waits in a queue of bounded length; what finds that full is dropped
and counted. A candidate that cannot answer is counted too, and nothing else comes of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import structlog

from soar.engine.recorder import Recorder
from soar.engine.scribe import Scribe
from soar.errors import PolicyUnavailableError, StoreError
from soar.model.decision import Decision
from soar.model.entry import EntryType
from soar.policy.gate import Document, Gate
from soar.policy.replay import Ruling, action_of
from soar.store.port import Fact

log = structlog.get_logger(__name__)

HELD = 1000
"""Decisions that wait for the candidate at most."""


@dataclass(frozen=True, slots=True)
class _Asked:
    question: Document
    live: Decision

    @property
    def run_id(self) -> str:
        return str(self.question["run"]["id"])

    @property
    def path(self) -> str:
        return str(self.question["action"]["id"])


class Shadow:
    """Compares a candidate with what was decided. `seen` counts decisions: same, differed, dropped, failed."""

    def __init__(self, *, gate: Gate, recorder: Recorder, scribe: Scribe, held: int = HELD) -> None:
        self.gate = gate
        self.seen: Counter[str] = Counter()
        self._recorder = recorder
        self._scribe = scribe
        self._waiting: asyncio.Queue[_Asked] = asyncio.Queue(held)

    def offer(self, question: Document, decision: Decision) -> None:
        """Let the candidate be asked what was just decided, when there is time. Never waits, never fails."""
        try:
            self._waiting.put_nowait(_Asked(question, decision))
        except asyncio.QueueFull:
            self.seen["dropped"] += 1

    async def run(self) -> None:
        """Compare until cancelled, one question at a time: actions come first."""
        while True:
            asked = await self._waiting.get()
            if asked.live.revision != self.gate.revision:  # a candidate that has been promoted differs in nothing
                self.seen[await self._compared(asked)] += 1

    async def _compared(self, asked: _Asked) -> str:
        try:
            decision = await self.gate.decide(asked.question)
            live, candidate = (Ruling.of(each.model_dump(mode="json")) for each in (asked.live, decision))
            if live.same(candidate):
                return "same"
            told = self._scribe.entry(
                EntryType.POLICY_DIFFERED,
                asked.live.id,
                run_id=asked.run_id,
                payload={
                    "action": action_of(asked.question),
                    "controls": list(live.apart(candidate)),
                    "live": {"people": live.people, "reasons": live.reasons},
                    "candidate": {"people": candidate.people, "reasons": candidate.reasons},
                },
                data={
                    "path": asked.path,
                    "kind": f"{live.effect}->{candidate.effect}",
                    "revision": asked.live.revision,
                    "candidate": decision.revision,
                },
            )
            await self._recorder.record(Fact(entries=(told,)))
        except (PolicyUnavailableError, StoreError) as failure:
            log.warning("policy.shadow_failed", run=asked.run_id, path=asked.path, why=str(failure))
            return "failed"
        return "differed"
