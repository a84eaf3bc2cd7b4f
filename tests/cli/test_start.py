"""How the service starts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from soar.cli import start
from soar.errors import StoreAwayError


async def test_a_start_waits_for_a_database_that_is_only_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    @asynccontextmanager
    async def assemble(loaded: Any) -> AsyncIterator[str]:
        tries.append(loaded)
        if len(tries) < 3:
            raise StoreAwayError("the database system is starting up")
        yield "the service"

    monkeypatch.setattr(start, "assemble", assemble)
    async with start._assembled("it", asyncio.Event()) as service:
        assert (service, tries) == ("the service", ["it"] * 3)


async def test_a_start_that_waits_ends_when_told_to_or_after_long_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @asynccontextmanager
    async def assemble(_: Any) -> AsyncIterator[None]:
        raise StoreAwayError("nobody answers")
        yield

    monkeypatch.setattr(start, "assemble", assemble)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, stop.set)
    with pytest.raises(StoreAwayError):
        async with start._assembled("it", stop):
            pass
    monkeypatch.setattr(start, "STORE_SECONDS", -1.0)
    with pytest.raises(StoreAwayError):
        async with start._assembled("it", asyncio.Event()):
            pass
