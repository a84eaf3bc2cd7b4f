"""What became of an alert, playbook by playbook, and which other alerts bear its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from soar.model.alert import Outcome

_ALWAYS = 3  # what every row of a match has


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertMatch:
    """What one playbook, or one of its runs that waited, made of one alert."""

    playbook_id: str
    outcome: Outcome
    run_id: str | None = None
    suppression: str | None = None  # id of the one that held the alert back from this playbook
    number: int | None = None  # the how manieth of its dedupe window it is
    path: str | None = None  # the step of a run that waited for such an alert

    def as_row(self) -> list[Any]:
        """As stores and the journal write it."""
        row = [self.playbook_id, self.outcome.value, self.run_id, self.suppression, self.number, self.path]
        while len(row) > _ALWAYS and row[-1] is None:
            row.pop()
        return row

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> AlertMatch:
        """The inverse of `as_row`."""
        playbook, outcome, run_id, held, number, path = (*row, None, None, None)[:6]
        return cls(
            playbook_id=playbook,
            outcome=Outcome(outcome),
            run_id=run_id,
            suppression=held,
            number=number,
            path=path,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Namesake:
    """Another alert of the same source and uid, admitted before."""

    id: str
    outcome: Outcome
    received_at: datetime
    repeats: bool  # its content is the same too


class KnowsKin(Protocol):
    """Which alerts belong to each other, as it may be looked at afterwards."""

    async def namesakes(self, alert_id: str, limit: int = 20) -> list[Namesake]:
        """Those that came before an alert, what repeats it first, else newest first."""
        ...

    async def joined(self, run_id: str, *, since: datetime, until: datetime, limit: int = 100) -> list[str]:
        """Alerts admitted in this time that joined a run after it began, by id."""
        ...
