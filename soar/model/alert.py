"""Record and Alert: what came in, and its normalised form."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from soar.model.base import Frozen


class Severity(StrEnum):
    """One scale for all products, after OCSF `severity_id` 1-5 (fatal counts as critical)."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 (informational) to 4 (critical): the order in which `at_least` compares."""
        return _SEVERITY_RANK[self]

    @property
    def score(self) -> int:
        """The middle of the word's band on the 0-100 scale, where a product gives only the word."""
        return _SEVERITY_SCORE[self]

    @classmethod
    def from_score(cls, score: float) -> Severity:
        """The word for a 0-100 score: below 20, 40, 60, 80, and from 80 on."""
        return _BY_RANK[min(4, max(0, int(score // 20)))]


_BY_RANK = tuple(Severity)
_SEVERITY_RANK = {word: rank for rank, word in enumerate(_BY_RANK)}
_SEVERITY_SCORE = {word: 20 * rank + 10 for rank, word in enumerate(_BY_RANK)}


class Outcome(StrEnum):
    """What became of a consumed record; each has exactly one."""

    MATCHED = "matched"
    NO_MATCH = "no_match"
    DUPLICATE = "duplicate"
    SUPPRESSED = "suppressed"
    CORRELATED = "correlated"
    EXPIRED = "expired"
    DEAD_LETTER = "dead_letter"


class Record(Frozen):
    """One raw message with its coordinates; `(source, topic, partition, offset)` is unique for ever.

    A file has its digest as topic and the line as offset; a webhook delivery its own id as topic and
    the position within the body as offset.
    """

    source: str
    topic: str
    partition: int = 0
    offset: int
    value: bytes
    key: bytes | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    mapping: str | None = None
    received_at: datetime
    unreadable: str | None = None  # why its source could not read it; it has no value then

    @property
    def coordinates(self) -> str:
        """The record's unique name, as it stands in the store and the journal."""
        return f"{self.source}/{self.topic}/{self.partition}/{self.offset}"


class Rule(Frozen):
    """The detection rule that fired."""

    id: str | None = None
    name: str | None = None


class Host(Frozen):
    """A machine; `id` is the name by which the product that saw it acts on it."""

    id: str | None = None
    name: str | None = None
    ip: str | None = None
    os: str | None = None


class User(Frozen):
    """An account."""

    id: str | None = None
    name: str | None = None
    email: str | None = None
    domain: str | None = None


class Ip(Frozen):
    """An address and its part in the event."""

    address: str
    role: str | None = None  # source | destination | attacker | target


class File(Frozen):
    """A file."""

    name: str | None = None
    path: str | None = None
    sha256: str | None = None
    sha1: str | None = None
    md5: str | None = None


class Process(Frozen):
    """A process."""

    name: str | None = None
    pid: int | None = None
    command_line: str | None = None
    path: str | None = None


class Url(Frozen):
    """A web address."""

    url: str


class Email(Frozen):
    """A message."""

    sender: str | None = None
    recipients: tuple[str, ...] = ()
    subject: str | None = None
    message_id: str | None = None


class Resource(Frozen):
    """A cloud or cluster resource."""

    id: str
    type: str | None = None
    name: str | None = None
    account: str | None = None
    region: str | None = None


class Entities(Frozen):
    """Who and what an alert is about."""

    hosts: tuple[Host, ...] = ()
    users: tuple[User, ...] = ()
    ips: tuple[Ip, ...] = ()
    files: tuple[File, ...] = ()
    processes: tuple[Process, ...] = ()
    urls: tuple[Url, ...] = ()
    emails: tuple[Email, ...] = ()
    resources: tuple[Resource, ...] = ()

    def count(self) -> int:
        """How many entities there are, of all kinds."""
        return sum(len(getattr(self, kind)) for kind in type(self).model_fields)


class Observables(Frozen):
    """Values to look up, each list without repeats, in order of appearance."""

    ip: tuple[str, ...] = ()
    domain: tuple[str, ...] = ()
    url: tuple[str, ...] = ()
    email: tuple[str, ...] = ()
    hostname: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    sha1: tuple[str, ...] = ()
    md5: tuple[str, ...] = ()


class Attack(Frozen):
    """MITRE ATT&CK, as the product names it: tactics by name or TA id, techniques by T id or name."""

    tactics: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()


class Alert(Frozen):
    """The normalised, frozen form of one detection.

    `id` is ours; `uid` is the product's own (or a digest of the content where it has none). `source` is
    the mapping's name, the word that triggers match on. `raw` is the product's payload, untouched.
    """

    id: str
    uid: str
    source: str
    product: str
    rule: Rule = Rule()
    title: str
    description: str | None = None
    severity: Severity
    severity_score: int = Field(ge=0, le=100)
    confidence: int | None = Field(default=None, ge=0, le=100)
    status: str | None = None
    time: datetime
    received_at: datetime
    attack: Attack = Attack()
    entities: Entities = Entities()
    observables: Observables = Observables()
    labels: dict[str, str] = Field(default_factory=dict)
    raw: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertDocument:
    """An Alert as JSON, which is how triggers, playbooks, policies and the journal see it, and its times.

    `body` is what `Alert` dumps. Nothing checks that here, for every consumed record would pay for it: who makes one
    answers for it.
    """

    body: dict[str, Any]
    time: datetime
    received_at: datetime

    @classmethod
    def of(cls, alert: Alert) -> AlertDocument:
        """The same Alert."""
        return cls(alert.model_dump(mode="json"), alert.time, alert.received_at)


class DeadLetter(Frozen):
    """A record that could not become an Alert, kept whole with the reason, to be replayed after a fix."""

    id: str
    record: Record
    code: str
    reason: str
    at: datetime
