"""What tests of topics share: reading one to a number of records, and configuring a service with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from soar.service import Doors, Running, assemble
from soar.settings import load_settings


async def read(servers: str, topic: str, enough: Callable[[list[ConsumerRecord]], bool]) -> list[ConsumerRecord]:
    """A topic from its beginning until there is enough of it."""
    found: list[ConsumerRecord] = []
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            while not enough(found):
                found.append(await consumer.getone())
    finally:
        await consumer.stop()
    return found


@contextlib.asynccontextmanager
async def at_work(config: Path, environ: Mapping[str, str]) -> AsyncIterator[tuple[Running, Doors]]:
    """The service with its doors open."""
    async with assemble(load_settings(config, {"SOAR_WEB__PORT": "0"} | dict(environ))) as service:
        running = Running(service)
        doors = Doors(running)
        await doors.open()
        await running.start(*doors.parts)
        try:
            yield running, doors
        finally:
            await doors.close()
            await running.stop()


async def until(held: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(60):
        while not held():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)
