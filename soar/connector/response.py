"""What came back, and what it means: every answer and every broken exchange becomes one word of `soar.errors`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ValidationError

from soar.connector.call import Trail
from soar.errors import (
    AuthenticationError,
    ConnectorError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitedError,
    RejectedError,
    RemoteConflictError,
    RemoteFailureError,
    RemoteNotFoundError,
)
from soar.model.action import Effect

EXCERPT = 300
STRUCK = "[secret]"
_SHORTEST_STRUCK = 6  # a shorter secret would punch holes into ordinary text
# C0 and C1 controls, line and paragraph separators, zero-width and bidi marks: what would act on a terminal or a log.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_SECONDS = re.compile(r"\d{1,9}")

_BY_STATUS: Mapping[int, type[ConnectorError]] = MappingProxyType(
    {401: AuthenticationError, 403: AuthenticationError, 404: RemoteNotFoundError, 409: RemoteConflictError}
)

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Exchange:
    """One request, as far as messages and judgements need it: never its query, headers or body."""

    instance: str
    method: str
    path: str
    effect: Effect

    def __str__(self) -> str:
        return f"{self.instance}: {self.method} {printable(self.path)}"

    def not_sent(self, why: str) -> NotSentError:
        """Proven: no byte left."""
        return NotSentError(f"{self} was not sent: {printable(why)}")

    def broken(self, why: str, *, status: int | None = None) -> ConnectorError:
        """No trustworthy answer: a failure for what only reads, an unknown outcome for everything else."""
        if self.effect is Effect.READ:
            return RemoteFailureError(f"{self} failed: {printable(why)}", status=status)
        return OutcomeUnknownError(f"{self} may or may not have happened: {printable(why)}", status=status)


@dataclass(frozen=True, repr=False)
class Response:
    """A successful answer, whole, with every secret of the request struck out."""

    exchange: Exchange
    status: int
    headers: Mapping[str, str]
    body: bytes
    trail: Trail | None = None  # where it counted as a change

    def __repr__(self) -> str:
        return f"Response({self.exchange}, {self.status}, {len(self.body)} bytes)"

    @property
    def text(self) -> str:
        """The body as text; what is not UTF-8 shows as U+FFFD."""
        return self.body.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """The body's JSON value (RFC 8259, no NaN); raises as `Exchange.broken` says where it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as failure:
            raise self.unreadable(f"no JSON ({failure.msg} at {failure.lineno}:{failure.colno})") from None

    def parse(self, model: type[M]) -> M:
        """The body as `model`; raises as `Exchange.broken` says where it does not fit."""
        value = self.json()
        try:
            return model.model_validate(value)
        except ValidationError as failure:
            raise self.unreadable(f"not as documented: {problems(failure)}") from None

    def unreadable(self, why: str) -> ConnectorError:
        """The error for a success whose body cannot be understood."""
        return self.exchange.broken(f"the answer ({self.status}) is {why}", status=self.status)

    def declined(self, why: str) -> RejectedError:
        """The error for a success whose body says that nothing was done, such as `"ok": false`; raise it at once."""
        if self.trail is not None:
            self.trail.changes -= 1
        return RejectedError(f"{self.exchange} was declined: {printable(why)[:EXCERPT]}", status=self.status)


def refused(
    exchange: Exchange, status: int, *, headers: Mapping[str, str], body: bytes, now: datetime
) -> ConnectorError:
    """The error for an answer that is no success; `body` has its secrets struck out already."""
    note = excerpt(body)
    said = f"answered {status}: {note}" if note else f"answered {status}"
    if status == 429:
        return RateLimitedError(f"{exchange} {said}", retry_after_seconds=retry_after(headers, now))
    if status == 503 and "retry-after" in headers:  # it turned us away at the door, and says when to come back
        return RemoteFailureError(f"{exchange} {said}", status=status)
    if status >= 500 or status == 408:  # 408: it stopped reading, or a proxy stopped waiting; no telling which
        return exchange.broken(said, status=status)
    if 300 <= status < 400:
        said = f"answered {status}, a redirect; none is followed. Correct base_url or the path"
    if status in (401, 403):
        said += " (check the instance's secret and its rights)"
    return _BY_STATUS.get(status, RejectedError)(f"{exchange} {said}", status=status)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait by the Retry-After header (RFC 9110 10.2.3): a number of seconds or a date; None if neither."""
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000": a time of unknown zone
        return None
    return max(0.0, (moment - now).total_seconds())


def strike(body: bytes, sensitive: Iterable[str]) -> bytes:
    """`body` without any of the secrets, in the spellings that JSON and URLs give them."""
    for secret in sensitive:
        if len(secret) < _SHORTEST_STRUCK:
            continue
        for spelling in {secret, orjson.dumps(secret)[1:-1].decode(), quote(secret, safe="")}:
            body = body.replace(spelling.encode(), STRUCK.encode())
    return body


def excerpt(body: bytes) -> str:
    """The beginning of a body, on one line, safe to print."""
    text = printable(body[: 4 * EXCERPT].decode("utf-8", errors="replace")).strip()
    return text if len(text) <= EXCERPT else text[: EXCERPT - 3] + "..."


def printable(text: str) -> str:
    """`text` on one line without anything that acts on a terminal or a log."""
    return _UNPRINTABLE.sub(" ", text)


def problems(failure: ValidationError) -> str:
    """What pydantic found wrong, without the values: they may be anybody's."""
    found = failure.errors(include_url=False, include_input=False, include_context=False)
    shown = [f"{'.'.join(str(part) for part in item['loc']) or 'the whole'}: {item['msg']}" for item in found[:5]]
    rest = f"; and {len(found) - 5} more" if len(found) > 5 else ""
    return "; ".join(shown) + rest
