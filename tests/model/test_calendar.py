"""What a calendar says of an instant."""

from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from soar.model.calendar import Calendar, Freeze, Hours

WORK = frozenset({"monday", "tuesday", "wednesday", "thursday", "friday"})
BERLIN = ZoneInfo("Europe/Berlin")
CALENDAR = Calendar(
    zone=BERLIN,
    hours=(Hours(days=WORK, since=time(8), to=time(18)), Hours(days=frozenset({"saturday"}), since=time(22))),
    holidays=frozenset({date(2026, 12, 25)}),
    freezes=(
        Freeze(
            name="year end",
            since=datetime.fromisoformat("2026-12-20T00:00:00+01:00"),
            to=datetime.fromisoformat("2027-01-04T06:00:00Z"),
        ),
    ),
)


@pytest.mark.parametrize(
    ("at", "open_"),
    [
        ("2026-01-05T07:00:00Z", True),  # a Monday: 8:00 in winter
        ("2026-01-05T06:59:59Z", False),
        ("2026-01-05T17:00:00Z", False),  # 18:00
        ("2026-07-06T06:00:00Z", True),  # 8:00 in summer
        ("2026-07-06T16:00:00Z", False),
        ("2026-01-10T20:59:59Z", False),  # a Saturday
        ("2026-01-10T22:59:59Z", True),  # to midnight
        ("2026-01-10T23:00:00Z", False),  # which is Sunday
        ("2026-12-25T10:00:00Z", False),  # a holiday on a Friday
        ("2026-12-24T23:30:00Z", False),  # the same holiday has begun in Berlin
    ],
)
def test_business_hours_go_by_the_clock_on_the_wall(at: str, open_: bool) -> None:
    assert CALENDAR.in_business_hours(datetime.fromisoformat(at)) is open_


def test_without_hours_all_but_holidays_is_business_hours() -> None:
    assert Calendar().in_business_hours(datetime.fromisoformat("2026-01-04T03:00:00Z"))
    holiday = Calendar(holidays=frozenset({date(2026, 1, 4)}))
    assert not holiday.in_business_hours(datetime.fromisoformat("2026-01-04T03:00:00Z"))


@pytest.mark.parametrize(
    ("at", "names"),
    [
        ("2026-12-19T22:59:59Z", ()),
        ("2026-12-19T23:00:00Z", ("year end",)),
        ("2027-01-04T05:59:59Z", ("year end",)),
        ("2027-01-04T06:00:00Z", ()),
    ],
)
def test_a_freeze_begins_with_its_first_instant_and_is_over_at_its_last(at: str, names: tuple[str, ...]) -> None:
    assert CALENDAR.frozen(datetime.fromisoformat(at)) == names
