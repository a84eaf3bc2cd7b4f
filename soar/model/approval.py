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


OPEN = frozenset(APPROVAL_MOVES)
"""The states from which a request can still move: people may decide, or what they granted may be sent."""


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


class StandIn(Frozen):
    """A further group that may take certain seats where nobody has decided in time; policy's own seats are none."""

    group: str
    after: Duration  # the request
    seats: tuple[GroupQuorum, ...]


class Requirement(Frozen):
    """Who must agree, and within what time."""

    groups: tuple[GroupQuorum, ...]
    stand_in: StandIn | None = None
    exclude: tuple[str, ...] = ()  # names, already resolved
    reason_required: bool = False
    ttl: Duration
    execution_ttl: Duration

    def unmet(self, votes: tuple[Vote, ...], requested_at: datetime) -> tuple[GroupQuorum, ...]:
        """Groups whose quorum is still short by the grants among `votes`, one person counting once.

        Assigns people to groups (a small bipartite matching), so that a person in two groups is used
        where they are needed. Who stands in counts from the escalation on, not before.
        """
        seats = [(quorum.group, number < self._open(quorum)) for quorum in self.groups for number in range(quorum.min)]
        grants = {v.approver: v for v in votes if v.decision == "grant" and v.approver not in self.exclude}
        taken: dict[str, int] = {}

        def fits(vote: Vote, group: str, *, open_seat: bool) -> bool:
            stand_in = self.stand_in if open_seat else None
            stands = stand_in is not None and stand_in.group in vote.groups and vote.at >= requested_at + stand_in.after
            return group in vote.groups or stands

        def seat(index: int, tried: set[str]) -> bool:
            group, open_seat = seats[index]
            for person, vote in grants.items():
                if fits(vote, group, open_seat=open_seat) and person not in tried:
                    tried.add(person)
                    if person not in taken or seat(taken[person], tried):
                        taken[person] = index
                        return True
            return False

        empty = [seats[index][0] for index in range(len(seats)) if not seat(index, set())]
        return tuple(GroupQuorum(group=g, min=empty.count(g)) for g in dict.fromkeys(empty))

    def _open(self, quorum: GroupQuorum) -> int:
        """How many seats of a group the stand-in may take."""
        return sum(each.min for each in self.stand_in.seats if each.group == quorum.group) if self.stand_in else 0


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

    @property
    def escalates_at(self) -> datetime | None:
        """From when on a further group may stand in, if one may."""
        stand_in = self.requirement.stand_in
        return None if stand_in is None else self.requested_at + stand_in.after

    @property
    def unmet(self) -> tuple[GroupQuorum, ...]:
        """Who must still agree."""
        return self.requirement.unmet(self.votes, self.requested_at)

    @staticmethod
    def digest_of(binding: dict[str, Any]) -> str:
        """SHA-256 over the canonical JSON of a binding."""
        return digest(binding)
