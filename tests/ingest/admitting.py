"""What the tests of the sources share: a real intake over a real store, and a small normaliser."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from soar.engine.admission import Admitted
from soar.engine.intake import Intake
from soar.engine.scribe import Scribe
from soar.library.index import TriggerIndex
from soar.model.alert import Alert, AlertDocument, DeadLetter, Record, Severity
from soar.model.clock import SystemClock, UlidSource
from soar.store.sqlite import SqliteStore

CLOCK, IDS = SystemClock(), UlidSource()


def normalise(record: Record) -> list[AlertDocument | DeadLetter]:
    """One alert for a record that is a JSON object with an `id`; a dead letter for anything else."""
    now = CLOCK.now()
    try:
        raw = json.loads(record.value)
        uid = str(raw["id"])
    except (ValueError, TypeError, KeyError) as failure:
        return [DeadLetter(id=IDS.new("dead"), record=record, code="unreadable", reason=repr(failure), at=now)]
    alert = Alert(
        id=IDS.new("alert"),
        uid=uid,
        source="probe",
        product="Probe",
        title=f"Alert {uid}",
        severity=Severity.HIGH,
        severity_score=70,
        time=now,
        received_at=record.received_at,
        raw=raw,
    )
    return [AlertDocument.of(alert)]


class Door:
    """The engine's door, with its store open; remembers what passed, batch by batch."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.batches: list[list[Record]] = []
        self._intake = Intake(
            store=store,
            scribe=Scribe(clock=CLOCK, ids=IDS),
            normalise=normalise,
            index=lambda: TriggerIndex([]),
            admitted=lambda: None,
        )

    @property
    def records(self) -> list[Record]:
        return [record for batch in self.batches for record in batch]

    async def admit(self, records: Sequence[Record]) -> list[Admitted]:
        admitted = await self._intake.admit(records)
        self.batches.append(list(records))
        return admitted

    async def stored(self) -> Counter[str]:
        """Every alert's title and every dead letter's value, with how often it is in the store."""
        alerts = await self.store.alerts(limit=10_000)
        letters = await self.store.dead_letters(limit=10_000)
        return Counter([row.title for row in alerts] + [letter.record.value.decode() for letter in letters])


@asynccontextmanager
async def door(folder: Path) -> AsyncIterator[Door]:
    store = SqliteStore(folder / "soar.db")
    await store.open()
    try:
        yield Door(store)
    finally:
        await store.close()
