"""Why an alert has the outcome that it has, in a sentence for each playbook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from soar.cli.suppress import told
from soar.library.index import Check
from soar.model.alert import Outcome
from soar.model.duration import format_duration
from soar.model.playbook import DedupeMode, Playbook
from soar.model.run import Run
from soar.store.matches import AlertMatch
from soar.store.port import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What one playbook made of an alert: the match, the playbook if it is still loaded, and the run."""

    match: AlertMatch
    playbook: Playbook | None
    run: Run | None

    @property
    def within(self) -> str:
        """The dedupe window, in words."""
        return (
            f" within {format_duration(self.playbook.dedupe.within)}" if self.playbook and self.playbook.dedupe else ""
        )

    @property
    def needed(self) -> int | None:
        """How many alerts of one key the playbook takes together, where it counts them."""
        dedupe = self.playbook.dedupe if self.playbook else None
        return dedupe.count if dedupe and dedupe.mode is DedupeMode.THRESHOLD else None


async def sentence(store: Store, made: Made) -> str:
    """What became of the alert there, and why."""
    match = made.match
    match match.outcome:
        case Outcome.MATCHED:
            said = f"answered{_reached(made)}"
        case Outcome.CORRELATED if match.path is not None:
            said = f"correlated: a run waited for such an alert at its step {match.path}, and goes on with it"
        case Outcome.CORRELATED:
            said = f"correlated: it joined the run that {_first(made)} of the same key began{_number(made)}"
        case Outcome.SUPPRESSED if match.suppression is not None:
            said = f"suppressed by {await _suppression(store, match.suppression)}"
        case Outcome.SUPPRESSED if match.run_id is not None:
            said = f"suppressed: {_first(made)} of the same key came before, and one is enough{made.within}"
        case Outcome.SUPPRESSED:
            said = _too_few(made)
        case Outcome.EXPIRED:
            said = "expired: it was too old when it was admitted"
        case other:
            said = str(other)
    return said


def refused(checks: Sequence[Check], outcome: Outcome) -> str:
    """Why a playbook made nothing of the alert."""
    if outcome is Outcome.DUPLICATE:
        return "not asked"
    said_no = sum(not check.held for check in checks)
    return f"no answer: {said_no} of {len(checks)} conditions said no" if said_no else "no answer"


def _reached(made: Made) -> str:
    return (
        ""
        if made.needed is None
        else f": it was number {made.match.number} of its key{made.within}, {made.needed} are needed"
    )


def _first(made: Made) -> str:
    return f"alert {made.run.alert_id}" if made.run else "an alert"


def _number(made: Made) -> str:
    return "" if made.match.number is None else f", as number {made.match.number} of them{made.within}"


def _too_few(made: Made) -> str:
    needed = "more" if made.needed is None else made.needed
    which = "it was one of too few" if made.match.number is None else f"it was number {made.match.number}"
    return f"suppressed: {which} of its key{made.within}, and {needed} are needed"


async def _suppression(store: Store, name: str) -> str:
    """The suppression that held the alert back, in words."""
    found = next((each for each in await store.suppressions() if each.id == name), None)
    return f"{name}, which is over; its entry in the journal says why" if found is None else told(found)
