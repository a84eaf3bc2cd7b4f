"""The HTTP API: one table of routes, each with the permission it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from soar.web.access import Doorkeeper, Permission
from soar.web.answers import answer, failed, refused, text
from soar.web.ingest import IngestDoor

Handler = Callable[[Request], Awaitable[Response]]
Health = Callable[[], Awaitable[Mapping[str, str]]]
"""What is wrong now, by part; nothing when all is well. Anyone may read it: no paths, no addresses, no values."""
Metrics = Callable[[], Awaitable[str]]
"""Counters as Prometheus reads them."""
METRICS_MEDIA_TYPE = "text/plain; version=0.0.4"
"""The Prometheus text format (prometheus.io/docs/instrumenting/exposition_formats)."""


@dataclass(frozen=True)
class Row:
    """One route, and what a caller needs to use it."""

    method: str
    path: str
    permission: Permission


INGEST = Row("POST", "/ingest/{source}", Permission.INGEST)
HEALTH = Row("GET", "/health", Permission.PUBLIC)
METRICS = Row("GET", "/metrics", Permission.METRICS)
ROUTES = (INGEST, HEALTH, METRICS)
"""All there is: nothing answers that does not stand here."""


def build_app(*, ingest: IngestDoor, doorkeeper: Doorkeeper, health: Health, metrics: Metrics) -> Starlette:
    """The ASGI application."""

    async def show_health(_request: Request) -> Response:
        wrong = await health()
        return answer(503, {"status": "failing", "failing": dict(wrong)}) if wrong else answer(200, {"status": "ok"})

    async def show_metrics(_request: Request) -> Response:
        return text(await metrics(), METRICS_MEDIA_TYPE)

    app = Starlette(
        routes=[
            _route(INGEST, ingest.post, doorkeeper),
            _route(HEALTH, show_health, doorkeeper),
            _route(METRICS, show_metrics, doorkeeper),
        ],
        exception_handlers={HTTPException: refused, Exception: failed},
    )
    app.router.redirect_slashes = False
    return app


def _route(row: Row, handler: Handler, doorkeeper: Doorkeeper) -> Route:
    async def guarded(request: Request) -> Response:
        doorkeeper.check(row.permission, request)
        return await handler(request)

    return Route(row.path, guarded, methods=[row.method])
