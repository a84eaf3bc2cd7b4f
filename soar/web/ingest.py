"""`POST /ingest/{source}`: one delivery of alerts, durable before it is answered."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from soar.engine.admission import Admit, Admitted
from soar.errors import StoreUnavailableError
from soar.located import did_you_mean
from soar.model.alert import Outcome, Record
from soar.model.clock import Clock, Ids
from soar.web.answers import answer

log = structlog.get_logger(__name__)


MAX_LINES = 10_000  # of one delivery; all of them share a transaction
MAX_DELIVERIES = 64  # under way at once; each holds its body in memory
MAX_LISTED = 100
BODY_SECONDS = 30.0
RETRY_AFTER_SECONDS = 5
MAX_KEY_LENGTH = 255
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})


class IngestDoor:
    """Takes deliveries.

    A record's topic names the delivery. With an `Idempotency-Key` that name comes from key and body, so that the
    same delivery sent again is recognised, while other content under a used key is never mistaken for it and lost.
    Such a name holds a colon, which no file's digest and no Kafka topic does: a sender cannot claim the coordinates
    of another door's records before they come.
    """

    def __init__(self, *, admit: Admit, clock: Clock, ids: Ids, max_body_bytes: int, mappings: Collection[str]) -> None:
        self._admit = admit
        self._clock = clock
        self._ids = ids
        self._max_body_bytes = max_body_bytes
        self._mappings = mappings
        self._under_way = 0

    async def post(self, request: Request) -> Response:
        """202 and what became of each alert; 503 where nothing was stored."""
        source = request.path_params["source"]
        if not _SOURCE.fullmatch(source):
            raise HTTPException(404, "a source is 1 to 64 letters, digits, dots, dashes and underscores")
        mapping = self._mapping(request)
        split = _splitter(request)
        key = _key(request)
        with self._counted():
            body = await self._body(request)
            delivery = self._ids.new("delivery") if key is None else _keyed(key, body)
            now = self._clock.now()
            records = [
                Record(source=source, topic=delivery, offset=line, value=value, mapping=mapping, received_at=now)
                for line, value in split(body)
            ]
            if not records:
                raise HTTPException(400, "the body is empty; send one alert at least")
            try:
                admitted = await self._admit(records)
            except StoreUnavailableError as failure:
                log.warning("web.store_unavailable", source=source, records=len(records), error=str(failure))
                raise _unavailable("nothing was stored; send the same again") from failure
        return answer(202, _summary(delivery, records, admitted))

    def _mapping(self, request: Request) -> str | None:
        for name in request.query_params:
            if name != "mapping":
                raise HTTPException(422, f"no parameter {name!r}; known is 'mapping'")
        mapping = request.query_params.get("mapping")
        if mapping is not None and mapping not in self._mappings:
            known, meant = ", ".join(sorted(self._mappings)), did_you_mean(mapping, self._mappings)
            raise HTTPException(422, f"no mapping {mapping!r}; known are {known}{meant}")
        return mapping

    async def _body(self, request: Request) -> bytes:
        """The body, read only as far as it may go."""
        too_large = HTTPException(413, f"a body has at most {self._max_body_bytes} bytes; send smaller batches")
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._max_body_bytes:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self._max_body_bytes:
                        raise too_large
        except TimeoutError as failure:
            raise HTTPException(408, f"the body took more than {BODY_SECONDS:g} seconds") from failure
        except ClientDisconnect as failure:
            raise HTTPException(400, "the body ended early") from failure
        return bytes(body)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Memory stays bounded: who comes while too many deliveries are under way is asked to come back."""
        if self._under_way >= MAX_DELIVERIES:
            raise _unavailable("too many deliveries are under way; send the same again")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


Split = Callable[[bytes], Iterator[tuple[int, bytes]]]


def _splitter(request: Request) -> Split:
    """How this body becomes records, by its media type."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise HTTPException(415, "a body must not be compressed")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _NDJSON:
        return _lines
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return _whole
    raise HTTPException(415, "Content-Type must be application/json, or application/x-ndjson for an alert per line")


def _whole(body: bytes) -> Iterator[tuple[int, bytes]]:
    if body.strip():
        yield 1, body


def _lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    if body.count(b"\n") > MAX_LINES:
        raise HTTPException(413, f"a body has at most {MAX_LINES} lines; send smaller batches")
    for line, value in enumerate(io.BytesIO(body), start=1):
        if stripped := value.strip():
            yield line, stripped


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= MAX_KEY_LENGTH:
        raise HTTPException(422, f"an Idempotency-Key has 1 to {MAX_KEY_LENGTH} characters")
    return key


def _keyed(key: str, body: bytes) -> str:
    content = hashlib.sha256(len(key).to_bytes(2) + key.encode() + body)
    return f"key:{content.hexdigest()[:32]}"


def _summary(delivery: str, records: Sequence[Record], admitted: Sequence[Admitted]) -> dict[str, Any]:
    """What became of the delivery. Lists are cut, counts are not."""
    fresh = {item.coordinates for item in admitted}
    alerts = [item for item in admitted if item.outcome is not Outcome.DEAD_LETTER]
    dead = [item for item in admitted if item.outcome is Outcome.DEAD_LETTER]
    return {
        "delivery": delivery,
        "accepted": len(records),
        "redelivered": sum(record.coordinates not in fresh for record in records),
        "counts": {"alerts": len(alerts), "dead_letters": len(dead)},
        "alerts": [
            {"id": item.alert_id, "outcome": item.outcome.value, "runs": list(item.run_ids)}
            for item in alerts[:MAX_LISTED]
        ],
        "dead_letters": [{"record": item.coordinates, "reason": item.reason} for item in dead[:MAX_LISTED]],
    }


def _unavailable(message: str) -> HTTPException:
    return HTTPException(503, message, {"Retry-After": str(RETRY_AFTER_SECONDS)})
