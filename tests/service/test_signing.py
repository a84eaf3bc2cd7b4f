"""What the metrics say of the journal: how much stands under no checkpoint, how old that is, whether it is ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from soar.engine.scribe import Scribe
from soar.engine.timekeeper import Sequencer
from soar.journal.note import Signer
from soar.model.clock import SystemClock, UlidSource
from soar.model.entry import Entry, EntryType
from soar.service.doors import prometheus
from soar.service.exposure import signing
from soar.store.port import Fact
from soar.store.sqlite import SqliteStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORIGIN = "soar.test/journal"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "soar.db")
    await opened.open()
    yield opened
    await opened.close()


def entry(seconds: int) -> Entry:
    made = Scribe(clock=SystemClock(), ids=UlidSource()).entry(EntryType.HALT_SET, "halt")
    return replace(made, at=NOON + timedelta(seconds=seconds))


async def said(store: SqliteStore, *, disowned: bool = False) -> set[str]:
    signed = await signing(store, now=NOON + timedelta(seconds=60), disowned=disowned)
    lines = prometheus(await store.counts(), halted=False, signed=signed).splitlines()
    return {line for line in lines if line.startswith("soar_journal")}


async def test_an_empty_journal_exposes_nothing(store: SqliteStore) -> None:
    assert await said(store) == {
        "soar_journal_entries 0",
        "soar_journal_exposed_entries 0",
        "soar_journal_exposed_seconds 0.0",
        "soar_journal_disowned 0",
    }


async def test_what_is_not_signed_is_counted_and_its_age_told(store: SqliteStore) -> None:
    await store.commit([Fact(entries=(entry(0), entry(10)))])
    assert "soar_journal_exposed_seconds 60.0" in await said(store)
    await Sequencer(store=store, signer=Signer.generate(ORIGIN), origin=ORIGIN).sign()
    await store.commit([Fact(entries=(entry(20), entry(30), entry(40)))])
    assert await said(store, disowned=True) == {
        "soar_journal_entries 5",
        "soar_journal_exposed_entries 3",
        "soar_journal_exposed_seconds 40.0",
        "soar_journal_checkpoint_age_seconds 50.0",
        "soar_journal_disowned 1",
    }
