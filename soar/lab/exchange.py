"""What a system of the lab is: a table of routes over a state that is a pure function of the requests it was sent.

No handler reads a clock, a random source or a socket. So the request log is the state: sending its lines
through the same handlers again rebuilds every ticket and every isolated host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, TypeVar
from urllib.parse import parse_qsl, unquote

from pydantic import BaseModel, ValidationError

from soar.model.base import Frozen

_ROUTE = "__lab_route__"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request to one system; `path` is as it was sent, query included, below the system's prefix."""

    at: datetime
    method: str
    path: str
    body: Any = None
    idempotency_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a system says; `effect` is one sentence on what changed, None where nothing did."""

    status: int = 200
    body: Any
    effect: str | None = None
    duplicate: bool = False  # the first answer to this idempotency key, given again


def refuse(status: int, error: str) -> Answer:
    """An answer that says why nothing was done."""
    return Answer(status=status, body={"error": error})


class Nothing(Frozen):
    """A request that takes no fields."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """One method on one path template; `{name}` stands for one segment."""

    method: str
    segments: tuple[str, ...]
    takes: type[BaseModel]
    keyed: bool

    def match(self, segments: tuple[str, ...]) -> list[str] | None:
        """What the template's names stand for, in order; None where the path is another one."""
        if len(segments) != len(self.segments):
            return None
        names = []
        for ours, theirs in zip(self.segments, segments, strict=True):
            if ours.startswith("{"):
                names.append(theirs)
            elif ours != theirs:
                return None
        return names


Handler = TypeVar("Handler", bound=Callable[..., Answer])


def route(
    method: str, template: str, *, takes: type[BaseModel] = Nothing, keyed: bool = False
) -> Callable[[Handler], Handler]:
    """Serve `def handler(self, given: takes, *names) -> Answer` at a path.

    `given` is read from the query for GET and DELETE, from the JSON body for the others. A `keyed` route
    honours `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a repeat gets the first answer.
    """
    found = Route(method=method, segments=_segments(template), takes=takes, keyed=keyed)

    def mark(handler: Handler) -> Handler:
        setattr(handler, _ROUTE, found)
        return handler

    return mark


class System:
    """One product of the range. Subclasses hold the state, declare routes, and show what a person looks at."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.now = datetime.fromtimestamp(0, UTC)  # the time of the request being answered
        self._routes = [
            (member.__lab_route__, getattr(self, name))
            for name, member in vars(type(self)).items()
            if hasattr(member, _ROUTE)
        ]
        self._keyed: dict[tuple[str, str, str], tuple[Any, Answer]] = {}

    def snapshot(self) -> dict[str, Any]:
        """The whole state, as JSON values."""
        raise NotImplementedError

    def handle(self, request: Request) -> Answer:
        """Do what the request asks, or say why not; never raises for anything a caller can send."""
        path, _, query = request.path.partition("?")
        fits = [(r, handler, names) for r, handler in self._routes if (names := r.match(_segments(path))) is not None]
        if not fits:
            return refuse(404, f"{self.name} has nothing at {path}")
        for found, handler, names in fits:
            if found.method == request.method:
                sent = dict(parse_qsl(query)) if found.method in {"GET", "DELETE"} else request.body
                try:
                    given = found.takes.model_validate({} if sent is None else sent)
                except ValidationError as error:
                    return refuse(422, _why(error))
                self.now = request.at
                return self._once(found, request, partial(handler, given, *names))
        allowed = ", ".join(sorted({r.method for r, _, _ in fits}))
        return refuse(405, f"{path} takes {allowed}, not {request.method}")

    def _once(self, found: Route, request: Request, act: Callable[[], Answer]) -> Answer:
        if not (found.keyed and request.idempotency_key):
            return act()
        key = (request.method, request.path, request.idempotency_key)
        if key in self._keyed:
            body, first = self._keyed[key]
            if body != request.body:
                return refuse(422, f"idempotency key {request.idempotency_key!r} was used for another request")
            return Answer(status=first.status, body=first.body, duplicate=True)
        answer = act()
        if answer.effect is not None:  # a refusal is not remembered: the caller may mend it and come again
            self._keyed[key] = (request.body, answer)
        return answer


def _segments(path: str) -> tuple[str, ...]:
    return tuple(unquote(part) for part in path.strip("/").split("/"))


def _why(error: ValidationError) -> str:
    """All that is wrong with the fields sent, one clause each."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
