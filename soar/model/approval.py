"""A stored request for people, bound to exactly what will run."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from soar.model.base import Frozen, digest
from soar.model.decision import GroupQuorum
from soar.model.duration import Duration


class ApprovalState(StrEnum):
    """Where a request for people stands."""

    PENDING = "pending"  # people decide; the timekeeper expires it
    GRANTED = "granted"  # the worker consumes it; the timekeeper expires it
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"  # the run was cancelled
    SUPERSEDED = "superseded"  # what would run is no longer what people were shown
    CONSUMED = "consumed"  # used for exactly one intent


APPROVAL_MOVES = MappingProxyType(
    {
        ApprovalState.PENDING: frozenset(
            {
                ApprovalState.GRANTED,
                ApprovalState.DENIED,
                ApprovalState.EXPIRED,
                ApprovalState.CANCELLED,
                ApprovalState.SUPERSEDED,
            }
        ),
        ApprovalState.GRANTED: frozenset(
            {
                ApprovalState.CONSUMED,
                ApprovalState.EXPIRED,
                ApprovalState.CANCELLED,
                ApprovalState.SUPERSEDED,
            }
        ),
    }
)


class Person(Frozen):
    """Someone who acts on soar, as the session or identity provider says, never as a body claims."""

    name: str
    groups: tuple[str, ...] = ()


class Vote(Frozen):
    """One person's word."""

    approver: str
    groups: tuple[str, ...]
    decision: str  # grant | deny
    method: str  # cli | console | slack | demo
    at: datetime
    digest: str  # of the binding they saw
    reason: str | None = None
    answer: str | int | float | bool | None = None  # to an `ask` step


class Requirement(Frozen):
    """Who must agree, and within what time."""

    groups: tuple[GroupQuorum, ...]
    exclude: tuple[str, ...] = ()  # names, already resolved
    reason_required: bool = False
    ttl: Duration
    execution_ttl: Duration

    def unmet(self, votes: tuple[Vote, ...]) -> tuple[GroupQuorum, ...]:
        """Groups whose quorum is still short by the grants among `votes`, one person counting once.

        Assigns people to groups (a small bipartite matching), so that a person in two groups is used
        where they are needed.
        """
        seats = [quorum.group for quorum in self.groups for _ in range(quorum.min)]
        grants = {v.approver: set(v.groups) for v in votes if v.decision == "grant" and v.approver not in self.exclude}
        taken: dict[str, int] = {}

        def seat(index: int, tried: set[str]) -> bool:
            for person, groups in grants.items():
                if seats[index] in groups and person not in tried:
                    tried.add(person)
                    if person not in taken or seat(taken[person], tried):
                        taken[person] = index
                        return True
            return False

        open_seats = [seats[index] for index in range(len(seats)) if not seat(index, set())]
        return tuple(GroupQuorum(group=g, min=open_seats.count(g)) for g in dict.fromkeys(open_seats))


class Approval(Frozen):
    """A request for people. `binding` is shown to them, hashed to `digest`, and compared before sending."""

    id: str
    run_id: str
    path: str
    state: ApprovalState
    binding: dict[str, Any]
    digest: str
    requirement: Requirement
    votes: tuple[Vote, ...] = ()
    requested_at: datetime
    decide_by: datetime
    execute_by: datetime | None = None  # set when granted

    @staticmethod
    def digest_of(binding: dict[str, Any]) -> str:
        """SHA-256 over the canonical JSON of a binding."""
        return digest(binding)
