"""Holding alerts back for a time: said by a person, with a reason, never for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from soar.engine.authority import Authority
from soar.engine.recorder import record_alone
from soar.engine.scribe import Scribe
from soar.errors import InputError, NotFoundError, StateConflictError
from soar.library.index import checks
from soar.model.base import to_rfc3339
from soar.model.duration import format_duration
from soar.model.entry import EntryType
from soar.model.playbook import Trigger
from soar.model.suppression import Suppression
from soar.policy.person import Deed, SubjectFacts
from soar.store.port import Fact, SetControl, Store
from soar.store.suppressions import key_of

LONGEST = timedelta(days=30)
"""So long one may last: whoever wants more says so again, and why. As long it is still shown after its end."""


def holding_back(
    suppressions: Sequence[Suppression], document: Mapping[str, Any], now: datetime
) -> tuple[Suppression, ...]:
    """Those in force now whose conditions an alert meets, the oldest first."""
    return tuple(
        each
        for each in suppressions
        if each.in_force(now) and all(check.held for check in checks(each.trigger, document))
    )


class Suppressor:
    """Acts for one person. Every deed raises NotAllowedError where policy does not let them."""

    def __init__(self, *, store: Store, scribe: Scribe, person: str, authority: Authority) -> None:
        self._store = store
        self._authority = authority
        self._scribe = scribe.acting_as(f"person:{person}")
        self._person = person

    async def add(
        self, trigger: Trigger, *, playbooks: Sequence[str], since: datetime, until: datetime, reason: str
    ) -> Suppression:
        """Hold back what meets `trigger`, from its commit on in every admission of every worker.

        Raises InputError for times that make no sense or last too long, and for no reason given.
        """
        now = self._scribe.clock.now()
        if not reason.strip():
            raise InputError("a suppression needs a reason; give one with --reason")
        if until <= max(since, now):
            raise InputError(f"a suppression until {to_rfc3339(until)} would be over before it begins; make it later")
        if until - since > LONGEST:
            raise InputError(
                f"a suppression lasts at most {format_duration(LONGEST)}, so that none is forgotten;"
                " say it again then, or change the playbook's `on`"
            )
        new = Suppression(
            id=self._scribe.ids.new("suppression"),
            trigger=trigger,
            playbooks=tuple(playbooks),
            since=since,
            until=until,
            reason=reason,
            by=self._person,
        )
        told = self._scribe.entry(
            EntryType.SUPPRESSION_ADDED,
            new.id,
            payload={
                "trigger": trigger.model_dump(mode="json", exclude_none=True),
                "playbooks": list(playbooks),
                "reason": reason,
            },
            data={"since": to_rfc3339(since), "until": to_rfc3339(until)},
        )
        await self._may(Deed.SUPPRESS, new)
        old = [each for each in await self._store.suppressions() if each.over_at + LONGEST < now]
        forgotten = [SetControl(key=key_of(each.id), value=None) for each in old]
        await record_alone(self._store, Fact(writes=(_kept(new), *forgotten), entries=(told,)))
        return new

    async def end(self, name: str, *, reason: str) -> Suppression:
        """End one before its time; raises NotFoundError, and StateConflictError where it is over."""
        now = self._scribe.clock.now()
        found = await find_suppression(self._store, name)
        if found.over_at <= now:
            raise StateConflictError(f"{found.id} is over since {to_rfc3339(found.over_at)}")
        await self._may(Deed.UNSUPPRESS, found)
        ended = found.model_copy(update={"ended_at": now, "ended_by": self._person})
        told = self._scribe.entry(EntryType.SUPPRESSION_ENDED, found.id, payload={"reason": reason})
        await record_alone(self._store, Fact(writes=(_kept(ended),), entries=(told,)))
        return ended

    async def _may(self, deed: Deed, suppression: Suppression) -> None:
        for playbook in suppression.playbooks or (None,):
            subject = SubjectFacts(kind="suppression", id=suppression.id, playbook=playbook)
            await self._authority.require(self._person, deed, subject)


async def find_suppression(store: Store, name: str) -> Suppression:
    """One by its id or the end of it; raises NotFoundError, and InputError where several end so."""
    known = await store.suppressions()
    found = [each for each in known if each.id == name or each.id.endswith(name.upper())]
    if not found:
        raise NotFoundError(f"no suppression {name!r}; `soar suppress list --all` shows them")
    if len(found) > 1:
        raise InputError(f"{name!r} names {len(found)} suppressions; give more of the id")
    return found[0]


def _kept(suppression: Suppression) -> SetControl:
    return SetControl(key=key_of(suppression.id), value=suppression.model_dump_json())
