"""Writes entries in one hand: same clock, same ids, same actor."""

from __future__ import annotations

from typing import Any

from soar.model.clock import Clock, Ids
from soar.model.entry import Entry, EntryType

Data = dict[str, str | int | bool]
Payload = dict[str, Any] | bytes


class Scribe:
    """Makes entries; nothing is recorded until they are committed."""

    def __init__(self, *, clock: Clock, ids: Ids, actor: str = "soar") -> None:
        self.clock = clock
        self.ids = ids
        self.actor = actor

    def entry(
        self,
        kind: EntryType,
        subject: str,
        *,
        run_id: str | None = None,
        payload: Payload | None = None,
        data: Data | None = None,
    ) -> Entry:
        """One fact about `subject`; `data` is public, `payload` can be erased."""
        return Entry(
            id=self.ids.new("entry"),
            type=kind,
            at=self.clock.now(),
            actor=self.actor,
            run_id=run_id,
            subject=subject,
            data=data or {},
            payload=payload,
        )

    def acting_as(self, actor: str) -> Scribe:
        """The same hand for another actor."""
        return Scribe(clock=self.clock, ids=self.ids, actor=actor)
