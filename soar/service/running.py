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
from soar.engine.admission import Admitted, Consumed
from soar.engine.interpreter import Interpreter
from soar.engine.leases import LeaseTimes
from soar.engine.programs import Programs
from soar.engine.recorder import Recorder
from soar.engine.retention import Retention
from soar.engine.shadowing import Shadow
from soar.engine.timekeeper import Timekeeper
from soar.engine.turns import Usher
from soar.engine.waits import Waits
from soar.engine.worker import Worker
from soar.errors import PolicyError, StoreUnavailableError
from soar.model.alert import Record
from soar.model.clock import SharedClock
from soar.model.entry import EntryType
from soar.policy.bundle import Bundle, fleet_of, load_bundle
from soar.policy.embedded import EmbeddedEngine
from soar.policy.gate import Gate
from soar.policy.port import PolicyEngine
from soar.service.assembly import Service
from soar.service.authority import environment_of
from soar.service.calendar import calendar_of
from soar.service.deciding import engine_of
from soar.service.promoting import Promotion
from soar.service.reloading import Reloader, loaded
from soar.service.storage import archive_of
from soar.service.timing import follow
from soar.store.port import Fact

log = structlog.get_logger(__name__)

HONOURED = ("approval", "expire", "notify", "rate", "redact")
"""The obligations that the engine carries out; a decision with another one is a denial."""
STOP_SECONDS = 35.0


class Running:
    """The service at work: worker, timekeeper, sequencer, and whatever doors are given."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.recorder = Recorder(service.store)
        programs = Programs(store=service.store, loaded=lambda: self.service.library.playbooks)
        settings = service.loaded.settings
        self.usher = Usher(store=service.store, recorder=self.recorder, scribe=service.scribe, woken=self._wake)
        times = LeaseTimes(timedelta(seconds=settings.worker.lease_seconds))
        self.shadow = self._shadow()
        self.gate = self._gate(self._engine(service.bundle), service.bundle, self.shadow)
        actor = Actor(
            store=service.store,
            turned=self.usher.ring,
            gate=self.gate,
            connectors=service.registry,
            people=service.people,
            environment=environment_of(service.loaded),
            times=times,
            calendar=calendar_of(settings.calendar),
            fleet=lambda: fleet_of(self.service.bundle),
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
        self.promotion = Promotion(
            gate=self.gate,
            folder=service.loaded.path(settings.policy.path),
            make=self._engine,
            taken=self._taken,
            store=service.store,
            recorder=self.recorder,
            scribe=service.scribe,
        )
        self.reloader = Reloader(service, self.recorder, worker=self.worker.name)
        self._tasks: list[asyncio.Task[None]] = []

    def _wake(self) -> None:
        self.worker.wake()

    def reload(self) -> None:
        """Look at policies and playbooks again, as SIGHUP asks; what is broken there stays out of force."""
        self.promotion.signal()
        self.reloader.ask()

    def _engine(self, bundle: Bundle) -> PolicyEngine:
        return engine_of(self.service.loaded, bundle)

    def _gate(self, engine: PolicyEngine, bundle: Bundle, shadow: Shadow | None = None) -> Gate:
        return Gate(
            engine,
            mandatory_controls=bundle.mandatory_controls,
            ids=self.service.ids,
            honours=HONOURED,
            told=(lambda *_: None) if shadow is None else shadow.offer,
        )

    def _shadow(self) -> Shadow | None:
        """The candidate; one that does not load is told and left out, as it must not keep anything from running."""
        path = self.service.loaded.settings.policy.shadow
        if path is None:
            return None
        try:
            bundle = load_bundle(self.service.loaded.path(path))
            gate = self._gate(EmbeddedEngine(bundle), bundle)
        except PolicyError as failure:
            log.warning("policy.shadow_refused", why=str(failure), remedy="correct it and restart")
            return None
        return Shadow(gate=gate, recorder=self.recorder, scribe=self.service.scribe)

    def _taken(self, bundle: Bundle) -> None:
        self.service.bundle = bundle

    async def admit(self, records: Sequence[Record]) -> Sequence[Admitted]:
        """The door for every source."""
        return await self.take(await self.intake.read(records))

    async def take(self, consumed: Sequence[Consumed]) -> Sequence[Admitted]:
        """Admit what was read."""
        try:
            admitted = await self.intake.take(consumed)
        except StoreUnavailableError as failure:
            self.recorder.pulse.failed(failure)
            raise
        self.recorder.pulse.well()
        return admitted

    async def start(self, *doors: Callable[[], Awaitable[None]]) -> None:
        """Tell the journal what is about to run, then run it."""
        await self.gate.open()
        try:
            await self._begin(*doors)
        except BaseException:
            await self.gate.close()
            raise

    async def _begin(self, *doors: Callable[[], Awaitable[None]]) -> None:
        await self.recorder.start()
        await self.sequencer.check()
        await self._tell_start()
        aging = () if self.retention is None else (self.retention.run,)
        beside = () if self.shadow is None else (self.shadow.run,)
        parts = [self.worker.run, self.timekeeper.run, self.usher.run, self.sequencer.run, *aging, *doors]
        parts += [self.promotion.run, self.reloader.run, *beside]
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
        await self.gate.close()
        if self.shadow is not None:
            await self.shadow.gate.close()

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
            scribe.entry(EntryType.POLICY_LOADED, service.bundle.revision, data={"engine": self.gate.engine}),
        )
        await self.recorder.record(Fact(writes=told.writes, entries=entries))


async def _guard(part: Callable[[], Awaitable[None]]) -> None:
    try:
        await part()
    except Exception:
        log.exception("service.part_failed", part=part.__qualname__)
        raise
