"""Severities as products write them, brought to one scale: a word and 0-100."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from functools import cached_property
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from soar.ingest.expressions import Expressions
from soar.model.alert import Severity
from soar.model.base import Frozen

_SPAN = re.compile(r"(-?\d+(?:\.\d+)?)-(-?\d+(?:\.\d+)?)")

# Syslog's words (RFC 5424), the usual words of products and issue trackers.
_USUAL = {
    Severity.INFORMATIONAL: "informational information info debug trace verbose ok clear",
    Severity.LOW: "low minor notice",
    Severity.MEDIUM: "medium moderate med average warning warn",
    Severity.HIGH: "high major error err severe important",
    Severity.CRITICAL: "critical crit fatal alert emergency emerg panic disaster page urgent blocker",
}
USUAL_WORDS = {word: severity for severity, words in _USUAL.items() for word in words.split()} | {
    f"{letter}{rank}": severity
    for letter in ("p", "sev", "sev-", "s")
    for rank, severity in enumerate(reversed(Severity), start=1)
}


class Scale(Frozen):
    """A straight scale from the least to the most severe number; `5-1` is inverted."""

    least: float
    most: float

    def score(self, number: float) -> int:
        """0-100; what is beyond an end counts as the end."""
        part = (number - self.least) / (self.most - self.least)
        return round(100 * min(1.0, max(0.0, part)))


def _scale(value: Any) -> Any:
    match = _SPAN.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match or float(match[1]) == float(match[2]):
        raise ValueError("write a scale as LEAST-MOST, such as 0-100, or 5-1 where 1 is the most severe")
    return {"least": float(match[1]), "most": float(match[2])}


def _lower_keys(value: Any) -> Any:
    return {str(key).strip().casefold(): item for key, item in value.items()} if isinstance(value, dict) else value


class Reading(Frozen):
    """One way to read a severity: where it stands, and what its values mean.

    `words` name values; `scale` is a straight range of numbers; `bands` says from which number on a word holds.
    Words that most products share (`high`, `warning`, `P1` ...) are understood without being listed.
    """

    source: Expressions = Field(alias="from")
    words: Annotated[dict[str, Severity], BeforeValidator(_lower_keys)] = Field(default_factory=dict)
    scale: Annotated[Scale, BeforeValidator(_scale)] | None = None
    bands: dict[float, Severity] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_scale(self) -> Reading:
        if self.scale and self.bands:
            raise ValueError("has both scale and bands; keep one")
        steps = sorted(self.bands.items())
        ranks = [severity.rank for _, severity in steps]
        if ranks != sorted(set(ranks)):
            raise ValueError("bands must rise with their numbers; use words or a scale such as 5-1 for an inverted one")
        if not all(math.isfinite(number) for number, _ in steps):
            raise ValueError("bands must be finite numbers")
        return self

    @cached_property
    def _steps(self) -> tuple[list[tuple[float, Severity]], list[float]]:
        steps = sorted(self.bands.items())
        return steps, [start for start, _ in steps]

    def among(self, keys: frozenset[str]) -> Reading:
        """The same, from what a payload with no other keys than these may have."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return Reading.model_construct(**{**given, "source": self.source.among(keys)})

    def understand(self, value: Any) -> tuple[Severity, int] | None:
        """The severity and its score, or None for a value that this reading does not know.

        A list counts as its most severe value.
        """
        if isinstance(value, list):
            known = [found for item in value[:100] if (found := self._one(item))]
            return max(known, key=lambda pair: pair[1], default=None)
        return self._one(value)

    def _one(self, value: Any) -> tuple[Severity, int] | None:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return None
        word = _key(value)
        if word in self.words:
            return self.words[word], self.words[word].score
        number = _number(value) if self.scale or self.bands else None
        if number is not None:
            return self._from_number(number)
        return (USUAL_WORDS[word], USUAL_WORDS[word].score) if word in USUAL_WORDS else None

    def _from_number(self, number: float) -> tuple[Severity, int]:
        if self.scale:
            score = self.scale.score(number)
            return Severity.from_score(score), score
        steps, starts = self._steps
        index = max(0, bisect_right(starts, number) - 1)
        start, severity = steps[index]
        if index + 1 == len(steps):
            return severity, severity.score
        # Within its band a number keeps its order: the band's width is spread over the word's twenty points.
        part = (max(number, start) - start) / (steps[index + 1][0] - start)
        return severity, 20 * severity.rank + int(20 * part)


def _key(value: str | float) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().casefold()


def _number(value: str | float) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):  # no number, or an integer beyond all floats
        return None
    return number if math.isfinite(number) else None
