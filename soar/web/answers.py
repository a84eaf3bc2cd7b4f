"""What goes back over HTTP: JSON, one form of error, safe headers on all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

log = structlog.get_logger(__name__)

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

CODES: Mapping[int, str] = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    415: "unsupported_media_type",
    422: "unprocessable",
    500: "internal",
    503: "unavailable",
}
"""HTTP status -> the stable word for programs."""


def answer(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(
        orjson.dumps(document), status, headers={**HEADERS, **(headers or {})}, media_type="application/json"
    )


def text(content: str, media_type: str) -> Response:
    """A plain answer."""
    return Response(content, headers=dict(HEADERS), media_type=media_type)


def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """`{"error": {"code", "message"}}`: the form of every answer from 400 on."""
    return answer(status, {"error": {"code": CODES[status], "message": message}}, headers)


async def refused(_request: Request, refusal: Exception) -> Response:
    """The answer to an HTTPException, ours or Starlette's own (no such route, wrong method)."""
    assert isinstance(refusal, HTTPException)
    return problem(refusal.status_code, refusal.detail, refusal.headers)


async def failed(request: Request, failure: Exception) -> Response:
    """The answer to what nobody foresaw: the log has the story, the caller does not."""
    log.error("web.failed", method=request.method, path=request.url.path, exc_info=failure)
    return problem(500, "soar failed to answer; its log says why")
