"""The API over a real intake and a real store; requests go through the whole application, most without a socket."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.applications import Starlette

from soar.connector.secret import Secret, SecretResolver
from soar.engine.admission import Admitted
from soar.engine.intake import Intake
from soar.model.alert import Alert, AlertDocument, DeadLetter, Record, Severity
from soar.model.clock import SystemClock, UlidSource
from soar.store.sqlite import SqliteStore
from soar.web.access import Doorkeeper, Reveal
from soar.web.app import build_app
from soar.web.ingest import IngestDoor

CLOCK, IDS = SystemClock(), UlidSource()
MAX_BODY_BYTES = 100_000
ENVIRON = {"EDR_TOKEN": "edr-secret", "ANY_TOKEN": "any-sëcret", "METRICS_TOKEN": "metrics-secret"}


def reveal(variable: str) -> Reveal:
    resolver, secret = SecretResolver(ENVIRON), Secret(f"secret://env/{variable}")
    return lambda: resolver.reveal(secret)


def normalise(record: Record) -> list[AlertDocument | DeadLetter]:
    """One alert for each object of a record; anything else is a dead letter."""
    now = CLOCK.now()
    try:
        value = json.loads(record.value)
    except ValueError:
        return [DeadLetter(id=IDS.new("dead"), record=record, code="not_json", reason="is no JSON", at=now)]
    return [
        AlertDocument.of(
            Alert(
                id=IDS.new("alert"),
                uid=str(raw["id"]),
                source=record.mapping or "generic",
                product="Probe",
                title=f"Alert {raw['id']}",
                severity=Severity.HIGH,
                severity_score=70,
                time=now,
                received_at=record.received_at,
                raw=raw,
            )
        )
        for raw in (value if isinstance(value, list) else [value])
    ]


@dataclass
class Api:
    """The application and what stands behind it.

    Tests set `failure` to make the store fail, and `go_on` to hold deliveries that have `reached` the store.
    """

    store: SqliteStore
    intake: Intake
    wrong: dict[str, str] = field(default_factory=dict)
    failure: Exception | None = None
    records: list[Record] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event | None = None

    def app(self, metrics_token: Reveal | None = None) -> Starlette:
        return build_app(
            ingest=IngestDoor(
                admit=self._admit,
                clock=CLOCK,
                ids=IDS,
                max_body_bytes=MAX_BODY_BYTES,
                mappings={"generic", "falco", "wazuh-4"},
            ),
            doorkeeper=Doorkeeper(
                tokens={"edr": reveal("EDR_TOKEN"), "*": reveal("ANY_TOKEN"), "lost": reveal("NOT_SET")},
                metrics_token=metrics_token,
            ),
            health=self._health,
            metrics=self._metrics,
        )

    def client(self, peer: str = "127.0.0.1", metrics_token: Reveal | None = None) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app(metrics_token), raise_app_exceptions=False, client=(peer, 4711))
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8787")

    async def _admit(self, records: Sequence[Record]) -> Sequence[Admitted]:
        if self.failure is not None:
            raise self.failure
        self.reached.set()
        if self.go_on is not None:
            await self.go_on.wait()
        self.records += records
        return await self.intake.admit(records)

    async def _health(self) -> Mapping[str, str]:
        return self.wrong

    async def _metrics(self) -> str:
        return "soar_alerts_total 3\n"


def bearer(token: str = "edr-secret", **headers: Any) -> dict[str, Any]:
    return {"Authorization": b"Bearer " + token.encode(), "Content-Type": "application/json", **headers}
