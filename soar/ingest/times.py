"""Times as products write them: ISO 8601 and its neighbours, and epochs in seconds to nanoseconds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  # before it stand only "no time" (year 1, the epoch itself) and mistakes
LATEST = datetime(2200, 1, 1, tzinfo=UTC)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS = re.compile(r"\d{9,19}(?:\.\d+)?", re.ASCII)
_ZONE_WORD = re.compile(r"\s*\(?\b(?:UTC|GMT)\)?$", re.IGNORECASE)
_SPACED_OFFSET = re.compile(r"\s+([+-]\d{2}:?\d{2})$", re.ASCII)
# A second count of this century has 9 or 10 digits, so each unit is a thousand times the one before, without overlap.
_UNITS = (1, 1_000, 1_000_000, 1_000_000_000)
_LONGEST = 64


def parse_time(value: Any, formats: Sequence[str] = ()) -> datetime | None:
    """The instant in UTC that a value stands for, or None.

    Understands epoch seconds, milliseconds, microseconds and nanoseconds (a number or its digits; the size tells the
    unit), ISO 8601 with a space or any number of fraction digits, `2024-05-30 08:55:35 (UTC)`, RFC 2822, and the
    `strptime` formats given. A time without a zone is UTC. A time before 1990 is a product's way to say "none".
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _from_epoch(value)
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    text = value.strip()
    if _DIGITS.fullmatch(text):
        return _from_epoch(int(text) if text.isdecimal() else float(text))
    moment = _from_formats(text, formats) or _from_iso(text) or _from_mail(text)
    return _plausible(moment) if moment else None


def _from_epoch(number: float) -> datetime | None:
    for unit in _UNITS:
        if abs(number) < 10_000_000_000 * unit:
            microseconds = number * 1_000_000 // unit
            return _plausible(_EPOCH + timedelta(microseconds=microseconds))
    return None


def _from_formats(text: str, formats: Sequence[str]) -> datetime | None:
    for form in formats:
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007  a format may have no zone; _plausible sets UTC
        except ValueError:
            continue
    return None


def _from_iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    bare = _SPACED_OFFSET.sub(r"\1", _ZONE_WORD.sub("", text))
    try:
        return datetime.fromisoformat(bare)
    except ValueError:
        return None


def _from_mail(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):  # what the parser raises for texts that are no date
        return None


def _plausible(moment: datetime) -> datetime | None:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:  # year 1 or 9999 shifted beyond the calendar
        return None
    return moment if EARLIEST <= moment < LATEST else None
