"""Several services at work on one home and one store."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from soar.lab import LabServer, read_log
from soar.model.alert import Record
from soar.model.run import RunState
from soar.service import Running, assemble
from soar.settings import load_settings
from soar.store.port import Store

from .house import TestClock

TICKET = """
playbook: it
description: A test's.
owner: soc
on: {match: {rule.name: it}}
steps:
  - {id: ticket, use: ticket.create, with: {title: "${{ alert.title }}"}}
"""


@dataclass
class Crew:
    """Several services at work on one home and one store."""

    home: Path
    lab: LabServer
    environ: dict[str, str]
    clock: TestClock = field(default_factory=TestClock)
    workers: list[Running] = field(default_factory=list)
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    admitted: int = 0

    @property
    def store(self) -> Store:
        return self.workers[0].service.store

    def limit(self, limits: str, instance: str = "lab_desk") -> None:
        limit(self.home, limits, instance)

    async def start(self, count: int = 3) -> None:
        for _ in range(count):
            loaded = load_settings(self.home / "soar.yaml", self.environ)
            service = await self.stack.enter_async_context(assemble(loaded, clock=self.clock))
            self.workers.append(Running(service))
            await self.workers[-1].start()

    async def stop(self) -> None:
        for worker in self.workers:
            await worker.stop()
        await self.stack.aclose()
        await self.lab.stop()

    async def admit(self, *titles: str, severity: str = "low") -> list[str]:
        """Admit alerts, each by the next worker; the runs that they start."""
        runs = []
        for title in titles:
            self.admitted += 1
            door = self.workers[self.admitted % len(self.workers)]
            body = f'{{"id":"a-{self.admitted}","rule":"it","title":"{title}","severity":"{severity}"}}'
            given = record(body.encode(), self.admitted, self.clock.now())
            runs += (await door.admit([given]))[0].run_ids
        return runs

    def sent(self) -> list[dict[str, Any]]:
        """What reached the desk."""
        return [line for line in read_log(self.lab.log_path) if line["system"] == "desk"]

    def isolations(self) -> list[dict[str, Any]]:
        """What reached the EDR."""
        return [line for line in read_log(self.lab.log_path) if line["system"] == "edr"]

    def titles(self) -> list[str]:
        """Which tickets were opened, in order."""
        return [line["body"]["title"] for line in self.sent() if line["applied"]]

    async def runs(self, state: RunState, count: int) -> None:
        """Until so many runs stand so."""
        await until(lambda: self._stand(state, count))

    async def _stand(self, state: RunState, count: int) -> bool:
        return (await self.store.counts()).runs.get(state, 0) >= count


def record(body: bytes, number: int, at: datetime) -> Record:
    return Record(source="test", topic="alerts", offset=number, value=body, mapping="generic", received_at=at)


def limit(home: Path, limits: str, instance: str = "lab_desk") -> None:
    """Write limits of an instance into a home's configuration."""
    config = home / "soar.yaml"
    text, count = re.subn(rf"(  {instance}: {{use: {instance}, )", rf"\1limits: {limits}, ", config.read_text())
    assert count == 1
    config.write_text(text)


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 - another process's rows ring no bell here
            await asyncio.sleep(0.02)
