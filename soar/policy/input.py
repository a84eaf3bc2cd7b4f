"""What policy is asked: everything it may know, as one frozen document (`soar.input/v1`).

Policy looks nothing up and has no clock. Whatever a rule needs is a field here, so that a decision can be
repeated from its input alone.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal

from pydantic import ConfigDict, Field, computed_field

from soar.model.action import ActionRequest, Impact, Risk, Target
from soar.model.alert import Severity
from soar.model.approval import Vote
from soar.model.base import Frozen, digest, to_rfc3339
from soar.model.decision import INPUT_SCHEMA
from soar.model.run import RunKind

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052


class TargetFacts(Target):
    """A target as policy sees it: with every spelling under which a list may know it."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def names(self) -> tuple[str, ...]:
        """The id folded for comparison, and without its domain: `DC-01.corp.example` is also `dc-01`.

        Folded here because the engines' own `lower` differ outside ASCII.
        """
        whole = unicodedata.normalize("NFKC", self.id).casefold().strip().rstrip(".")
        spellings = [whole]
        if self.type == "host" and not self.addresses:
            spellings.append(whole.partition(".")[0])
        if self.type == "user":
            spellings.append(whole.rpartition("\\")[2].partition("@")[0])
        return tuple(dict.fromkeys(name for name in spellings if name))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def addresses(self) -> tuple[str, ...]:
        """The id as an IP address in canonical form, and the IPv4 one inside it; empty for what is none.

        `::ffff:10.0.0.1`, `2002:a00:1::` and `64:ff9b::10.0.0.1` all reach 10.0.0.1, and the engines' CIDR
        builtins do not agree about the first.
        """
        try:
            address = ipaddress.ip_address(self.id.strip())
        except ValueError:
            return ()
        if isinstance(address, ipaddress.IPv4Address):
            return (str(address),)
        address = ipaddress.IPv6Address(int(address))  # without a zone
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        return (str(address), str(inner)) if inner is not None else (str(address),)


class ActionFacts(Frozen):
    """The call that is about to be made; `effect` is its impact in policy's words."""

    id: str  # step path within the run
    connector: str
    connector_version: str
    verb: str
    capability: str | None = None
    effect: Impact
    risk: Risk
    reversible_by: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    digest: str
    targets: tuple[TargetFacts, ...] = ()

    @classmethod
    def json_of(cls, request: ActionRequest, *, capability: str | None = None) -> dict[str, Any]:
        """The facts of a rendered request as JSON, written at once: every action has new ones, and they are sound."""
        return {
            "id": request.path,
            "connector": request.connector,
            "connector_version": request.connector_version,
            "verb": request.verb,
            "capability": capability,
            "effect": str(request.impact),
            "risk": str(request.risk),
            "reversible_by": request.undo,
            "params": request.params,
            "digest": request.digest,
            "targets": [TargetFacts(**target.model_dump()).model_dump(mode="json") for target in request.targets],
        }


class AlertFacts(Frozen):
    """The alert that started the run. A run without one counts as informational: the strictest row of a matrix."""

    id: str | None = None
    source: str | None = None
    severity: Severity = Severity.INFORMATIONAL
    confidence: int | None = Field(default=None, ge=0, le=100)
    rule_id: str | None = None
    entities: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def json_of(cls, alert: Mapping[str, Any]) -> dict[str, Any]:
        """The facts of an admitted alert as JSON; its entities stay out, they cost more to hand over than all else."""
        return {
            "id": alert["id"],
            "source": alert["source"],
            "severity": alert["severity"],
            "confidence": alert["confidence"],
            "rule_id": alert["rule"]["id"],
            "entities": {},
        }


class PlaybookFacts(Frozen):
    """The pinned playbook."""

    id: str
    version: str | None = None
    sha256: str
    author: str | None = None


class RunFacts(Frozen):
    """The run; `attempt` counts this action's tries from 1, `depth` the calls above it."""

    id: str
    kind: RunKind = RunKind.ALERT
    attempt: int = Field(default=1, ge=1)
    depth: int = Field(default=0, ge=0)


class ActorFacts(Frozen):
    """Who asks: the service for a run that an alert started, a person for one started by hand."""

    id: str = "soar"
    type: Literal["service", "person"] = "service"
    groups: tuple[str, ...] = ()


class ApprovalFacts(Frozen):
    """One person's word on this action."""

    approver: str
    groups: tuple[str, ...] = ()
    method: str
    at: str
    digest: str  # of the binding they saw
    decision: Literal["grant", "deny"]

    @classmethod
    def of(cls, vote: Vote) -> ApprovalFacts:
        """The facts of a stored vote; its words are for people."""
        facts = vote.model_dump(include=set(cls.model_fields) - {"at"})
        return cls(**facts, at=to_rfc3339(vote.at))


class TimeFacts(Frozen):
    """Now, to the second, and what the calendar says of it: whatever is asked within a second sees one instant.

    The weekday is that of the calendar's place.
    """

    now_rfc3339: str
    unix: int
    weekday: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    business_hours: bool = True
    freeze: tuple[str, ...] = ()  # names of change freezes that are on

    @classmethod
    def of(
        cls, now: datetime, *, business_hours: bool = True, freeze: tuple[str, ...] = (), zone: tzinfo = UTC
    ) -> TimeFacts:
        """The facts of an instant, with the weekday that it has in this zone."""
        moment = now.astimezone(UTC).replace(microsecond=0)
        return cls(
            now_rfc3339=moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            unix=int(moment.timestamp()),
            weekday=_WEEKDAYS[moment.astimezone(zone).weekday()],
            business_hours=business_hours,
            freeze=freeze,
        )


_WEEKDAYS: tuple[Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"], ...] = (
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
)


class Environment(Frozen):
    """Where this is."""

    name: str = "default"
    tenant: str = "default"


class Count(Frozen):
    """Actions in the last hour and the last 24 hours, this one not included."""

    hour: int = Field(default=0, ge=0)
    day: int = Field(default=0, ge=0)


class Counters(Frozen):
    """How much was done lately. Only actions whose risk is not `none` are counted."""

    target: dict[str, Count] = Field(default_factory=dict)  # `<type>:<id>`
    connector: dict[str, Count] = Field(default_factory=dict)
    playbook: dict[str, Count] = Field(default_factory=dict)
    fleet_percent: dict[str, float] = Field(default_factory=dict)
    """Target type -> 0-100: how many of all were acted on in the last 24 hours, this action's last target left out."""


class PolicyInput(Frozen):
    """The whole question. `plan` asks before people are, `execute` immediately before sending."""

    model_config = ConfigDict(ser_json_inf_nan="constants")  # a NaN must not reach policy as null: it has no digest

    schema_: Literal["soar.input/v1"] = Field(alias="schema", default=INPUT_SCHEMA)
    phase: Literal["plan", "execute"] = "plan"
    mode: Literal["enforce", "shadow", "dry_run"] = "enforce"
    action: ActionFacts
    alert: AlertFacts = AlertFacts()
    playbook: PlaybookFacts
    run: RunFacts
    actor: ActorFacts = ActorFacts()
    approvals: tuple[ApprovalFacts, ...] = ()
    time: TimeFacts
    environment: Environment = Environment()
    counters: Counters = Counters()
    halted: bool = False

    def document(self) -> dict[str, Any]:
        """The plain JSON that engines get and the journal keeps."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON; raises ValueError for what JSON cannot say (NaN, integers beyond 2**53)."""
        return digest(self.document())
