"""The service at work."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import structlog

from soar import __version__
from soar.engine.act import Actor
from soar.engine.admission import Admitted
from soar.engine.interpreter import Interpreter
from soar.engine.leases import LeaseTimes
from soar.engine.programs import Programs
from soar.engine.recorder import Recorder
from soar.engine.retention import Retention
from soar.engine.timekeeper import Timekeeper
from soar.engine.turns import Usher
from soar.engine.waits import Waits
from soar.engine.worker import Worker
from soar.errors import StoreUnavailableError
from soar.model.alert import Record
from soar.model.clock import SharedClock
from soar.model.entry import EntryType
from soar.policy.embedded import EmbeddedEngine
from soar.policy.gate import Gate
from soar.policy.input import Environment
from soar.service.assembly import Service
from soar.service.reloading import Reloader, loaded
from soar.service.storage import archive_of
from soar.service.timing import follow
from soar.store.port import Fact

log = structlog.get_logger(__name__)

HONOURED = ("approval", "expire")
"""The obligations that the engine carries out; a decision with another one is a denial."""
STOP_SECONDS = 35.0


class Running:
    """The service at work: worker, timekeeper, sequencer, and whatever doors are given."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.recorder = Recorder(service.store)
        self.engine = EmbeddedEngine(service.bundle, timeout_seconds=service.loaded.settings.policy.timeout_seconds)
        programs = Programs(store=service.store, loaded=lambda: self.service.library.playbooks)
        settings = service.loaded.settings
        self.usher = Usher(store=service.store, recorder=self.recorder, scribe=service.scribe, woken=self._wake)
        times = LeaseTimes(timedelta(seconds=settings.worker.lease_seconds))
        actor = Actor(
            store=service.store,
            turned=self.usher.ring,
            gate=Gate(
                self.engine, mandatory_controls=service.bundle.mandatory_controls, ids=service.ids, honours=HONOURED
            ),
            connectors=service.registry,
            people=service.people,
            environment=Environment(name=settings.environment.name, tenant=settings.environment.tenant),
            times=times,
        )
        self.worker = Worker(
            name=f"{socket.gethostname()}-{os.getpid()}",
            store=service.store,
            recorder=self.recorder,
            scribe=service.scribe,
            programs=programs,
            interpreter=Interpreter(
                actor=actor, waits=Waits(store=service.store, programs=programs), store=service.store
            ),
            concurrency=settings.worker.concurrency,
            times=times,
        )
        self.timekeeper = Timekeeper(
            store=service.store, recorder=self.recorder, scribe=service.scribe, woken=self.worker.wake, times=times
        )
        self.sequencer = service.sequencer()
        days = settings.retention.days
        self.retention = (
            Retention(store=service.store, scribe=service.scribe, folder=archive_of(service.loaded), days=days)
            if days is not None
            else None
        )
        self.intake = service.intake(self.worker.wake)
        self.reloader = Reloader(service, self.recorder, worker=self.worker.name)
        self._tasks: list[asyncio.Task[None]] = []

    def _wake(self) -> None:
        self.worker.wake()

    async def admit(self, records: Sequence[Record]) -> list[Admitted]:
        """The door for every source."""
        try:
            admitted = await self.intake.admit(records)
        except StoreUnavailableError as failure:
            self.recorder.pulse.failed(failure)
            raise
        self.recorder.pulse.well()
        return admitted

    async def start(self, *doors: Callable[[], Awaitable[None]]) -> None:
        """Tell the journal what is about to run, then run it."""
        await self.recorder.start()
        await self.sequencer.check()
        await self._tell_start()
        aging = () if self.retention is None else (self.retention.run,)
        parts = [
            self.worker.run,
            self.timekeeper.run,
            self.usher.run,
            self.sequencer.run,
            self.reloader.run,
            *aging,
            *doors,
        ]
        clock = self.service.clock
        if isinstance(clock, SharedClock):
            parts.append(lambda: follow(clock, self.service.store))
        self._tasks = [asyncio.create_task(_guard(part), name=part.__qualname__) for part in parts]

    async def wait(self) -> None:
        """Until one of the parts ends, which none does while all is well; raises what ended it."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Lease nothing more, let runs come to rest, say so in the journal, sign it."""
        self.worker.stop()
        workers = [task for task in self._tasks if task.get_name().startswith("Worker")]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*workers, return_exceptions=True), STOP_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        service = self.service
        stopped = service.scribe.entry(EntryType.SERVICE_STOPPED, self.worker.name)
        await self.recorder.record(Fact(entries=(stopped,)))
        await self.recorder.stop()
        await self.sequencer.sign()
        await self.sequencer.close()
        await self.engine.close()

    async def _tell_start(self) -> None:
        service = self.service
        library, scribe = service.library, service.scribe
        connectors = [dataclasses.asdict(info) for info in service.registry.loaded()]
        told = loaded(library, scribe, self.worker.name)
        entries = (
            scribe.entry(
                EntryType.SERVICE_STARTED,
                self.worker.name,
                payload={"connectors": connectors},
                data={"version": __version__},
            ),
            *told.entries,
            scribe.entry(EntryType.POLICY_LOADED, service.bundle.revision, data={"engine": self.engine.name}),
        )
        await self.recorder.record(Fact(writes=told.writes, entries=entries))


async def _guard(part: Callable[[], Awaitable[None]]) -> None:
    try:
        await part()
    except Exception:
        log.exception("service.part_failed", part=part.__qualname__)
        raise
