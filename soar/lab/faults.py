"""Fault switches: what can be made to go wrong between a caller and a system of the lab."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from soar.model.base import Frozen


class Mode(StrEnum):
    """How a request goes wrong. The first five do nothing, the others act first: what is lost is the answer."""

    UNAUTHORIZED = "unauthorized"  # 401
    RATE_LIMITED = "rate_limited"  # 429 with Retry-After: 1, or the `retry_after` given
    ERROR = "error"  # 500, or the `status` given, with Retry-After where given
    REDIRECT = "redirect"  # 307 to a cloud's metadata address, which no caller should follow
    DROP_BEFORE = "drop_before"  # the connection is cut
    DROP_AFTER = "drop_after"  # acts, then the connection is cut
    SLOW = "slow"  # acts, then waits `seconds` before it answers
    GARBAGE = "garbage"  # acts, then answers 200 with something that is not JSON
    HUGE = "huge"  # acts, then answers 200 with `size_bytes` of JSON string, made as it is sent

    @property
    def acts(self) -> bool:
        """Whether the system does what it was asked for."""
        return self in {Mode.DROP_AFTER, Mode.SLOW, Mode.GARBAGE, Mode.HUGE}


class Fault(Frozen):
    """One switch; `times` None means until it is deleted, `method` None means every method."""

    mode: Mode
    times: int | None = Field(default=None, ge=1)
    method: str | None = None
    seconds: float = Field(default=5, ge=0, le=3600)
    retry_after: int | None = Field(default=None, ge=0)  # seconds, as in the header
    status: int = Field(default=500, ge=400, le=599)
    size_bytes: int = Field(default=2**30, ge=1, le=2**34)

    @property
    def headers(self) -> dict[str, str]:
        """What the fault adds to an answer."""
        if self.mode is Mode.REDIRECT:
            return {"Location": "http://169.254.169.254/latest/meta-data/"}
        if self.mode is Mode.RATE_LIMITED:
            return {"Retry-After": str(1 if self.retry_after is None else self.retry_after)}
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class FaultBoard:
    """The switches that are on, each by the path it is for: `edr`, or `edr/hosts/ws-17`; the longest fits best."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}

    def put(self, where: str, fault: Fault) -> None:
        """Turn a switch on, in place of the one that was there."""
        self._faults[where.strip("/")] = fault

    def clear(self, where: str = "") -> None:
        """Turn off the switches at this path and below it; all of them without one."""
        self._faults = {path: fault for path, fault in self._faults.items() if not _within(path, where.strip("/"))}

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that befalls this request, if any; one of its `times` is used up."""
        fits = [
            where
            for where, fault in self._faults.items()
            if _within(path.strip("/"), where) and fault.method in {None, method}
        ]
        if not fits:
            return None
        where = max(fits, key=len)
        fault = self._faults.pop(where)
        if fault.times is None:
            self._faults[where] = fault
        elif fault.times > 1:
            self._faults[where] = fault.model_copy(update={"times": fault.times - 1})
        return fault

    def snapshot(self) -> dict[str, Any]:
        """The switches that are on, by path."""
        return {where: fault.model_dump(mode="json") for where, fault in sorted(self._faults.items())}


def _within(path: str, where: str) -> bool:
    return not where or path == where or path.startswith(f"{where}/")
