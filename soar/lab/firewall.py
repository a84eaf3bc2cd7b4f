"""The firewall: an old-fashioned one, which adds a rule each time it is told to."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, IPvAnyAddress

from soar.lab.exchange import Answer, Nothing, System, refuse, route
from soar.model.base import Frozen, to_rfc3339


class NewRule(Frozen):
    """Blocks one address."""

    ip: IPvAnyAddress
    reason: str = ""


class Search(Frozen):
    """Rules for one address, or all of them."""

    ip: IPvAnyAddress | None = None
    limit: int = Field(default=1000, ge=1, le=10_000)


class Rule(Frozen):
    """One rule in force."""

    id: str
    at: str
    ip: str
    reason: str


class Firewall(System):
    """Adding a rule is no idempotent verb: a caller that lost the answer must look before asking again."""

    name: ClassVar[str] = "firewall"

    def __init__(self) -> None:
        super().__init__()
        self.rules: dict[str, Rule] = {}
        self._last = 0

    def snapshot(self) -> dict[str, Any]:
        """Rules in force."""
        return {"rules": [rule.model_dump() for rule in self.rules.values()]}

    @route("GET", "/rules", takes=Search)
    def find(self, given: Search) -> Answer:
        """Rules in force, by address."""
        hits = [r for r in self.rules.values() if given.ip is None or r.ip == str(given.ip)]
        return Answer(body={"rules": [rule.model_dump() for rule in hits[: given.limit]]})

    @route("POST", "/rules", takes=NewRule)
    def add(self, given: NewRule) -> Answer:
        """Block an address with a new rule, each time anew."""
        self._last += 1
        rule = Rule(id=f"rule-{self._last}", at=to_rfc3339(self.now), ip=str(given.ip), reason=given.reason)
        self.rules[rule.id] = rule
        return Answer(status=201, body=rule.model_dump(), effect=f"blocked {rule.ip} by {rule.id}")

    @route("DELETE", "/rules/{id}")
    def remove(self, _: Nothing, name: str) -> Answer:
        """Take a rule out of force."""
        rule = self.rules.pop(name, None)
        if rule is None:
            return refuse(404, f"no rule {name!r}")
        return Answer(body=rule.model_dump(), effect=f"removed {rule.id} for {rule.ip}")
