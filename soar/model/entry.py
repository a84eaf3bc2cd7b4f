"""Entry: one fact, on its way into the journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class EntryType(StrEnum):
    """Every kind of fact that the journal holds."""

    SERVICE_STARTED = "service.started"
    SERVICE_STOPPED = "service.stopped"
    PLAYBOOKS_LOADED = "playbooks.loaded"
    POLICY_LOADED = "policy.loaded"
    ALERT_ADMITTED = "alert.admitted"
    RECORD_DEAD_LETTERED = "record.dead_lettered"
    RUN_CREATED = "run.created"
    RUN_RECOVERED = "run.recovered"
    RUN_CANCEL_REQUESTED = "run.cancel_requested"
    RUN_PAUSED = "run.paused"
    RUN_RESUMED = "run.resumed"
    RUN_RETRIED = "run.retried"
    RUN_RESOLVED = "run.resolved"
    RUN_FINISHED = "run.finished"
    STEP_WAITING = "step.waiting"
    STEP_FINISHED = "step.finished"
    STEP_SKIPPED = "step.skipped"
    POLICY_DECIDED = "policy.decided"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_VOTED = "approval.voted"
    APPROVAL_ESCALATED = "approval.escalated"
    APPROVAL_CLOSED = "approval.closed"
    APPROVAL_CONSUMED = "approval.consumed"
    ACTION_INTENT = "action.intent"
    ACTION_OUTCOME = "action.outcome"
    UNDO_SCHEDULED = "undo.scheduled"
    JOURNAL_CONTINUED = "journal.continued"
    JOURNAL_KEY_ROTATED = "journal.key_rotated"
    PAYLOAD_ERASED = "payload.erased"
    SUPPRESSION_ADDED = "suppression.added"
    SUPPRESSION_ENDED = "suppression.ended"
    PAYLOAD_ARCHIVED = "payload.archived"
    STATE_FORGOTTEN = "state.forgotten"
    HALT_SET = "halt.set"
    HALT_CLEARED = "halt.cleared"
    PERSON_REFUSED = "person.refused"
    POLICY_PROMOTED = "policy.promoted"
    POLICY_DIFFERED = "policy.differed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One fact. `data` goes into the public leaf: small, no personal data, strings, ints and bools only.

    `payload` is the rest; the leaf holds only a salted hash of it, so that it can be erased. As bytes it is the JSON
    text of an object already.
    """

    id: str
    type: EntryType
    at: datetime
    actor: str  # `soar`, `worker:<name>`, `person:<name>`
    run_id: str | None = None
    subject: str  # what the fact is about: an alert, run, approval or playbook id
    data: dict[str, str | int | bool] = field(default_factory=dict)
    payload: dict[str, Any] | bytes | None = None
