"""What the tests of the API ask for by name."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from soar.engine.intake import Intake
from soar.engine.scribe import Scribe
from soar.library.index import TriggerIndex
from soar.store.sqlite import SqliteStore

from .served import CLOCK, IDS, Api, normalise


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    store = SqliteStore(tmp_path / "soar.db")
    await store.open()
    intake = Intake(
        store=store,
        scribe=Scribe(clock=CLOCK, ids=IDS),
        normalise=normalise,
        index=lambda: TriggerIndex([]),
        admitted=lambda: None,
    )
    yield Api(store, intake)
    await store.close()


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    async with api.client() as client:
        yield client
