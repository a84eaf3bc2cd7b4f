"""Whether a person may do something: policy says so, before it is done, and a refusal is journalled."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from soar.engine.people import People
from soar.engine.recorder import record_alone
from soar.engine.scribe import Scribe
from soar.errors import NotAllowedError, PolicyError
from soar.model.entry import EntryType
from soar.policy.bundle import Bundle
from soar.policy.input import Environment, TimeFacts
from soar.policy.permits import permission
from soar.policy.person import Deed, Permission, PermissionReason, PersonFacts, PersonInput, SubjectFacts
from soar.store.port import Fact, Store

log = structlog.get_logger(__name__)

_STOPPING = frozenset({Deed.HALT, Deed.DENY})
"""What must be possible just when policy is broken: it lets nothing out, and is never missed because of a bad rule."""


class Authority:
    """Asks the bundle in force. Where that cannot answer nobody may do anything, but what stops actions."""

    def __init__(
        self,
        *,
        store: Store,
        scribe: Scribe,
        people: People,
        bundle: Callable[[], Bundle],
        facts: Callable[[], TimeFacts],
        environment: Environment,
    ) -> None:
        self._store = store
        self._scribe = scribe
        self._people = people
        self._bundle = bundle
        self._facts = facts
        self._environment = environment

    async def require(
        self, person: str, deed: Deed, subject: SubjectFacts, *, run_id: str | None = None, channel: str = "cli"
    ) -> None:
        """Raise NotAllowedError unless this person may do this; the refusal is in the journal then.

        If we crash before that, nothing was done and nothing is told.
        """
        known = self._people.find(person)
        question = PersonInput(
            person=PersonFacts(name=person, groups=known.groups if known else (), channel=channel),
            deed=deed,
            subject=subject,
            time=self._facts(),
            environment=self._environment,
        )
        answer = self._answer(question)
        if answer.allow:
            return
        why = "; ".join(f"{reason.msg} [{reason.code}]" for reason in answer.reasons) or "policy gives no reason"
        told = self._scribe.acting_as(f"person:{person}").entry(
            EntryType.PERSON_REFUSED,
            subject.id or subject.kind,
            run_id=run_id,
            payload={"question": question.model_dump(mode="json", by_alias=True), "why": why},
            data={"deed": deed.value, "kind": subject.kind},
        )
        await record_alone(self._store, Fact(entries=(told,)))
        raise NotAllowedError(f"{person} may not {deed}: {why}")

    def _answer(self, question: PersonInput) -> Permission:
        try:
            return permission(self._bundle(), question)
        except PolicyError as failure:
            if question.deed in _STOPPING:
                log.warning("authority.absent", deed=question.deed.value, why=str(failure))
                return Permission(allow=True)
            reason = PermissionReason(code="people.no_answer", msg=f"policy cannot say who may: {failure}")
            return Permission(allow=False, reasons=(reason,))
