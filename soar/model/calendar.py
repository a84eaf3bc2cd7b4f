"""When people work, and when nothing is to be changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, tzinfo

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True, kw_only=True)
class Hours:
    """From one time of day to another, on some days of the week; without `to`, to midnight."""

    days: frozenset[str]
    since: time
    to: time | None = None


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """A change freeze: `since` belongs to it, `to` does not."""

    name: str
    since: datetime
    to: datetime


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """Business hours by the clock on the wall of a place. Without any, all but holidays is business hours."""

    zone: tzinfo = UTC
    hours: tuple[Hours, ...] = ()
    holidays: frozenset[date] = frozenset()
    freezes: tuple[Freeze, ...] = ()

    def in_business_hours(self, now: datetime) -> bool:
        """Whether people are at work at this instant."""
        here = now.astimezone(self.zone)
        if here.date() in self.holidays:
            return False
        clock, day = here.time(), WEEKDAYS[here.weekday()]
        return not self.hours or any(
            day in each.days and each.since <= clock and (each.to is None or clock < each.to) for each in self.hours
        )

    def frozen(self, now: datetime) -> tuple[str, ...]:
        """The names of the change freezes that are on."""
        return tuple(each.name for each in self.freezes if each.since <= now < each.to)
