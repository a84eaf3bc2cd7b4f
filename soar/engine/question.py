"""From a rendered action to the question that policy is asked about it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from soar.engine.context import RunContext
from soar.model.action import ActionRequest, Risk
from soar.model.approval import Vote
from soar.model.base import Frozen
from soar.model.decision import INPUT_SCHEMA
from soar.policy.input import (
    ActionFacts,
    ActorFacts,
    AlertFacts,
    ApprovalFacts,
    Count,
    Counters,
    Environment,
    PlaybookFacts,
    RunFacts,
    TimeFacts,
)
from soar.store.port import Store


class Questions:
    """Writes the documents of `soar.policy.input.PolicyInput`, one per action.

    Put together from its parts, because most of them stay the same for a run, a playbook or a second.
    """

    def __init__(self, *, store: Store, environment: Environment) -> None:
        self._store = store
        self._environment = _json(environment)
        self._actor = _json(ActorFacts())
        self._harmless = _json(Counters())
        self._time: tuple[datetime | None, dict[str, Any]] = (None, {})

    async def about(
        self, context: RunContext, request: ActionRequest, *, capability: str | None, votes: tuple[Vote, ...]
    ) -> dict[str, Any]:
        """The question, with counters as they stand now."""
        run, playbook = context.run, context.program.playbook
        kept = context.kept_facts
        if not kept:
            kept["alert"] = _json(AlertFacts.of(context.alert) if context.alert else AlertFacts())
            kept["playbook"] = _json(PlaybookFacts(id=playbook.id, sha256=playbook.digest, author=playbook.author))
        attempt = len(context.attempts.get(request.path, ())) + 1
        return {
            "schema": INPUT_SCHEMA,
            "phase": "execute" if votes else "plan",
            "mode": "shadow" if context.shadow else "enforce",
            "action": _json(ActionFacts.of(request, capability=capability)),
            **kept,
            "run": _json(RunFacts(id=run.id, kind=run.kind, attempt=attempt, depth=run.depth)),
            "actor": self._actor,
            "approvals": [_json(ApprovalFacts.of(vote)) for vote in votes],
            "time": self._now(context.now()),
            "environment": self._environment,
            "counters": await self._counters(context, request),
            "halted": False,
        }

    def _now(self, now: datetime) -> dict[str, Any]:
        second = now.replace(microsecond=0)
        if self._time[0] != second:
            self._time = (second, _json(TimeFacts.of(second)))
        return self._time[1]

    async def _counters(self, context: RunContext, request: ActionRequest) -> dict[str, Any]:
        if request.risk is Risk.NONE:
            return self._harmless  # only what can harm is counted and limited
        keys = request.counts_against(context.run.playbook_id)
        connector, playbook, *targets = keys
        now = context.now()
        itself = (context.run.id, request.path)  # an earlier try of it is no other action
        hour = await self._store.action_counts(keys, now - timedelta(hours=1), besides=itself)
        day = await self._store.action_counts(keys, now - timedelta(days=1), besides=itself)

        def count(key: str) -> Count:
            return Count(hour=hour[key], day=day[key])

        return _json(
            Counters(
                connector={request.connector: count(connector)},
                playbook={context.run.playbook_id: count(playbook)},
                target={target.removeprefix("target:"): count(target) for target in targets},
            )
        )


def _json(facts: Frozen) -> dict[str, Any]:
    return facts.model_dump(mode="json")
