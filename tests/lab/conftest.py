"""A lab of one's own for each test, and a client that knows its token."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from soar.lab import LabServer

TOKEN = "a-token-for-tests"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[LabServer]:
    server = LabServer(port=0, log_path=tmp_path / "lab.jsonl", token=TOKEN)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(lab: LabServer) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=lab.url, headers=headers, trust_env=False) as found:
        yield found
