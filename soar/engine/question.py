"""From a rendered action to the question that policy is asked about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from soar.engine.context import RunContext
from soar.model.action import ActionRequest, Risk
from soar.model.approval import Vote
from soar.model.base import Frozen
from soar.model.calendar import Calendar
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
    TimeFacts,
)
from soar.store.ceilings import Ceiling, fleet_key
from soar.store.port import Store

_SECOND, _HOUR, _DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Question:
    """What policy is asked, and up to what counts its answer holds."""

    document: dict[str, Any]
    ceilings: tuple[Ceiling, ...] = ()


class Questions:
    """Writes the documents of `soar.policy.input.PolicyInput`, one per action.

    Put together from its parts, because most of them stay the same for a run, a playbook or a second. `fleet` gives
    how many there are of each type of target, where that is known.
    """

    def __init__(
        self,
        *,
        store: Store,
        environment: Environment,
        calendar: Calendar,
        fleet: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._store = store
        self._calendar = calendar
        self._fleet = fleet
        self._environment = _json(environment)
        self._actor = _json(ActorFacts())
        self._harmless = _json(Counters())
        self._no_alert = _json(AlertFacts())
        self._second: tuple[datetime, datetime, dict[str, Any]] | None = None  # from, until, what is told of it

    async def about(
        self, context: RunContext, request: ActionRequest, *, capability: str | None, votes: tuple[Vote, ...]
    ) -> Question:
        """The question, with counters as they stand now."""
        run, playbook = context.run, context.program.playbook
        kept = context.kept_facts
        if not kept:
            kept["alert"] = AlertFacts.json_of(context.alert) if context.alert else self._no_alert
            kept["playbook"] = _json(PlaybookFacts(id=playbook.id, sha256=playbook.digest, author=playbook.author))
        attempt = len(context.attempts.get(request.path, ())) + 1
        counters, ceilings = await self._counters(context, request)
        document = {
            "schema": INPUT_SCHEMA,
            "phase": "execute" if votes else "plan",
            "mode": "shadow" if context.shadow else "enforce",
            "action": ActionFacts.json_of(request, capability=capability),
            **kept,
            "run": {"id": run.id, "kind": str(run.kind), "attempt": attempt, "depth": run.depth},
            "actor": self._actor,
            "approvals": [_json(ApprovalFacts.of(vote)) for vote in votes],
            "time": self._now(context.now()),
            "environment": self._environment,
            "counters": counters,
            "halted": False,
        }
        return Question(document, ceilings)

    def _now(self, now: datetime) -> dict[str, Any]:
        known = self._second
        if known is None or not known[0] <= now < known[1]:
            begin = now.replace(microsecond=0)
            known = self._second = (begin, begin + _SECOND, _json(time_facts(begin, self._calendar)))
        return known[2]

    async def _counters(
        self, context: RunContext, request: ActionRequest
    ) -> tuple[dict[str, Any], tuple[Ceiling, ...]]:
        if request.risk is Risk.NONE:
            return self._harmless, ()  # only what can harm is counted and limited
        keys = request.counts_against(context.run.playbook_id)
        connector, playbook, *targets = keys
        sizes = {kind: size for kind, size in self._fleet().items() if kind in {each.type for each in request.targets}}
        fleets = [fleet_key(kind) for kind in sizes]
        now = context.now()
        itself = (context.run.id, request.path)  # an earlier try of it is no other action
        day = await self._store.action_counts([*keys, *fleets], now - _DAY, besides=itself)
        hour = await self._store.action_counts(keys, now - _HOUR, besides=itself)
        # Read after what the ceilings are made of: who comes between these reads is seen by the ceilings.
        percent = {kind: await self._percent(request, kind, size, now - _DAY) for kind, size in sizes.items()}

        def count(key: str) -> Count:
            return Count(hour=min(hour[key], day[key]), day=day[key])

        counters = Counters(
            connector={request.connector: count(connector)},
            playbook={context.run.playbook_id: count(playbook)},
            target={target.removeprefix("target:"): count(target) for target in targets},
            fleet_percent=percent,
        )
        # Nothing leaves a window that began at a fixed instant, so where the day has not grown the hour has not.
        ceilings = tuple(Ceiling(key=key, since=now - _DAY, most=most) for key, most in day.items())
        return _json(counters), ceilings

    async def _percent(self, request: ActionRequest, kind: str, size: float, since: datetime) -> float:
        """How much of all targets of a type is affected before the last of this action's own."""
        own = {target.id for target in request.targets if target.type == kind}
        others = await self._store.targets_acted_on(kind, since, besides=own)
        return min(100 * (others + len(own) - 1) / size, 100.0)


def time_facts(now: datetime, calendar: Calendar) -> TimeFacts:
    """An instant, and what a calendar says of it."""
    return TimeFacts.of(
        now, business_hours=calendar.in_business_hours(now), freeze=calendar.frozen(now), zone=calendar.zone
    )


def _json(facts: Frozen) -> dict[str, Any]:
    return facts.model_dump(mode="json")
