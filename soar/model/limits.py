"""How often, and how many at once, a connector instance may be called."""

from __future__ import annotations

import re
from datetime import timedelta
from math import ceil

from pydantic import Field, field_validator

from soar.model.base import Frozen

_RATE = re.compile(r"([1-9]\d{0,5})/(s|m|h|d)")
_PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Limits(Frozen):
    """What one instance bears; None: as much as comes."""

    rate: str | None = Field(default=None, description="Calls per second, minute, hour or day, such as 60/m.")
    burst: int = Field(default=1, ge=1, le=10_000, description="So many may come at once after a quiet time.")
    concurrency: int | None = Field(default=None, ge=1, le=10_000, description="So many may be under way.")

    @field_validator("rate")
    @classmethod
    def _readable(cls, rate: str | None) -> str | None:
        if rate is not None and not _RATE.fullmatch(rate):
            raise ValueError(f"{rate!r} is no rate; write a whole number, / and one of s, m, h, d, such as 60/m")
        return rate

    @property
    def interval(self) -> timedelta | None:
        """The time that one call of the rate takes up; rounded up, so that the rate is never exceeded."""
        if self.rate is None:
            return None
        number, unit = self.rate.split("/")
        return timedelta(microseconds=ceil(_PERIODS[unit] * 1_000_000 / int(number)))

    def __bool__(self) -> bool:
        """Whether they limit anything."""
        return self.rate is not None or self.concurrency is not None

    def __str__(self) -> str:
        """As people read them: `60/m, burst 10, 5 at once`."""
        words = [] if self.rate is None else [self.rate, *([f"burst {self.burst}"] if self.burst > 1 else [])]
        return ", ".join(words + ([] if self.concurrency is None else [f"{self.concurrency} at once"])) or "none"
