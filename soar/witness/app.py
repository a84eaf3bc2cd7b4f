"""The witness's one door: POST /add-checkpoint (c2sp.org/tlog-witness)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from soar.errors import JournalError
from soar.journal.cosignature import Cosigner
from soar.journal.note import Verifier
from soar.journal.witness import SUBMISSION_BYTES_MAX, Answer, judge
from soar.witness.memory import Memory

log = structlog.get_logger(__name__)


def build_app(*, memory: Memory, cosigner: Cosigner, logs: Mapping[str, Sequence[Verifier]]) -> Starlette:
    """The ASGI application of a witness that knows these logs, by origin."""

    async def add_checkpoint(request: Request) -> Response:
        body = await _body(request)
        # From here to the answer nothing is awaited: reading, judging and keeping are one step for all requests.
        answer = judge(body, logs=logs, latest=memory.latest, cosigner=cosigner)
        if answer.keep is not None:
            memory.keep(answer.origin, answer.keep)
        _tell(answer, body)
        return Response(answer.body, answer.status, headers={"Content-Type": answer.media_type})

    app = Starlette(
        routes=[Route("/add-checkpoint", add_checkpoint, methods=["POST"])],
        exception_handlers={JournalError: _forgotten},
    )
    app.router.redirect_slashes = False
    return app


async def _forgotten(_request: Request, error: Exception) -> Response:
    """What this witness remembers is damaged: it must not cosign anything as if it had never seen the log."""
    log.error("witness.memory_damaged", error=str(error))
    return Response("this witness's memory is damaged\n", HTTPStatus.INTERNAL_SERVER_ERROR)


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > SUBMISSION_BYTES_MAX:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {SUBMISSION_BYTES_MAX} bytes")
    return body


def _tell(answer: Answer, body: bytes) -> None:
    """The submission stands in the log where its signature is good: a fork that a log signed is evidence."""
    if answer.keep is not None:
        log.info("witness.cosigned", origin=answer.origin)
    elif answer.origin:
        log.warning("witness.disagreed", origin=answer.origin, status=int(answer.status), submission=body.decode())
    else:
        log.info("witness.refused", status=int(answer.status), why=answer.body.strip())
