"""The calendar that the configuration says."""

from __future__ import annotations

from datetime import time
from zoneinfo import ZoneInfo

from soar.model.calendar import Calendar, Freeze, Hours
from soar.settings import CalendarSettings, HoursSettings


def calendar_of(settings: CalendarSettings) -> Calendar:
    """Business hours, holidays and change freezes, ready to be asked."""
    return Calendar(
        zone=ZoneInfo(settings.timezone),
        hours=tuple(_hours(each) for each in settings.business_hours),
        holidays=frozenset(settings.holidays),
        freezes=tuple(Freeze(name=each.name, since=each.from_, to=each.to) for each in settings.freezes),
    )


def _hours(settings: HoursSettings) -> Hours:
    to = None if settings.to == "24:00" else time.fromisoformat(settings.to)
    return Hours(days=frozenset(settings.days), since=time.fromisoformat(settings.from_), to=to)
