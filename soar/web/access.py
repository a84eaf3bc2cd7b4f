"""Who may come in: every route names a permission, and this is the only place that grants one."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Mapping
from enum import StrEnum

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request

from soar.errors import SoarError

log = structlog.get_logger(__name__)

Reveal = Callable[[], str]
"""Gives a token's value now; raises SoarError where it cannot be had. Asked each time, so that it can be changed."""

ANY_SOURCE = "*"
_LOCAL_NAME = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?")


class Permission(StrEnum):
    """What a caller must show."""

    PUBLIC = "public"  # nothing
    INGEST = "ingest"  # the bearer token of the source in the path, or of `*`
    METRICS = "metrics"  # the metrics token; where none is configured, that the call comes from this machine


class Doorkeeper:
    """Grants permissions by bearer token.

    Metrics tell an attacker whether he has been noticed, so they are not public. Without a token of their own they
    are for this machine alone: the peer's address counts, never a forwarded header, and the name asked for must be
    local too, so that a web page cannot read them through a name that it points here.
    """

    def __init__(self, *, tokens: Mapping[str, Reveal], metrics_token: Reveal | None = None) -> None:
        self._tokens = dict(tokens)
        self._metrics_token = metrics_token

    def check(self, permission: Permission, request: Request) -> None:
        """Raises HTTPException 401 or 403, which tell the caller nothing and the log everything."""
        match permission:
            case Permission.PUBLIC:
                return
            case Permission.INGEST:
                self._check_ingest(request)
            case Permission.METRICS if self._metrics_token is not None:
                if not _fits("metrics", self._metrics_token, _shown(request)):
                    raise _unauthorized(request, "wrong token")
            case Permission.METRICS:
                if not _is_local(request):
                    raise _forbidden(request, "not from this machine, and no metrics token is configured")

    def _check_ingest(self, request: Request) -> None:
        shown = _shown(request)
        # Every token is compared, whichever fits: how long it takes says nothing.
        opened = {name for name, reveal in self._tokens.items() if _fits(name, reveal, shown)}
        if not opened:
            raise _unauthorized(request, "wrong token")
        if not opened & {request.path_params["source"], ANY_SOURCE}:
            raise _forbidden(request, f"the token is for {', '.join(sorted(opened))}")


def _shown(request: Request) -> bytes:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise _unauthorized(request, "no bearer token")
    return token.strip().encode("latin-1")  # the bytes as they came


def _fits(name: str, reveal: Reveal, shown: bytes) -> bool:
    try:
        token = reveal()
    except SoarError as failure:
        log.error("web.token_unavailable", token=name, error=str(failure))  # noqa: TRY400 - the message says it all
        return False
    return hmac.compare_digest(hashlib.sha256(token.encode()).digest(), hashlib.sha256(shown).digest())


def _is_local(request: Request) -> bool:
    try:
        near = request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
    return near and _LOCAL_NAME.fullmatch(request.headers.get("host", "").lower()) is not None


def _unauthorized(request: Request, reason: str) -> HTTPException:
    _tell(request, reason)
    return HTTPException(401, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"})


def _forbidden(request: Request, reason: str) -> HTTPException:
    _tell(request, reason)
    return HTTPException(403, "not allowed")


def _tell(request: Request, reason: str) -> None:
    peer = request.client.host if request.client else None
    log.warning("web.refused", method=request.method, path=request.url.path, peer=peer, reason=reason)
