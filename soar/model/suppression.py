"""Suppression: a time in which alerts of a kind start nothing, said by a person, with a reason and an end."""

from __future__ import annotations

from datetime import datetime

from soar.model.base import Frozen
from soar.model.playbook import Trigger


class Suppression(Frozen):
    """What meets `trigger`, admitted from `since` to before `until`, starts none of `playbooks`; empty: none at all."""

    id: str
    trigger: Trigger
    playbooks: tuple[str, ...] = ()
    since: datetime
    until: datetime
    reason: str
    by: str
    ended_at: datetime | None = None  # where a person ended it before its time
    ended_by: str | None = None

    @property
    def over_at(self) -> datetime:
        """From when on it holds nothing back."""
        return self.until if self.ended_at is None else min(self.until, self.ended_at)

    def in_force(self, now: datetime) -> bool:
        """Whether it holds anything back at this instant."""
        return self.since <= now < self.over_at

    def covers(self, playbook_id: str) -> bool:
        """Whether it speaks of this playbook."""
        return not self.playbooks or playbook_id in self.playbooks
