"""One seed, from the first record to the last check."""

import asyncio
import contextvars
import hashlib
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import structlog

from soar.engine.scribe import Scribe
from soar.errors import StoreUnavailableError
from soar.model.approval import ApprovalState
from soar.model.run import RunState
from soar.store.sqlite import SqliteStore

from .checks import Told, check_all, story_of
from .loop import PROCESS, Process, RestlessError, SimLoop
from .people import Crowd
from .plan import Delivery, Plan, draw
from .service import Engine, InlinePolicy, ShakyStore
from .watch import Watch
from .world import FAIR, SimClock, SimConnectors, SimIds, Trace, World

ROUNDS = 300
ROUND_SECONDS = 0.4  # two looks of a worker or timekeeper


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a seed showed: what broke a promise, and everything that happened on the way."""

    seed: int
    violations: tuple[str, ...]
    trace: tuple[str, ...]
    journal: tuple[Told, ...]
    digest: str


def simulate(seed: int, plan: Plan | None = None) -> Result:
    """Run one seed. The same seed gives the same trace, in any process, on any machine."""
    with tempfile.TemporaryDirectory(prefix="soar-simulation-", dir=_memory()) as folder:
        path = Path(folder) / "soar.db"
        path.write_bytes(_empty_store())
        return Simulation(seed, plan or draw(seed), path).run()


class Simulation:
    """The machine, the network, the people, and the processes on it."""

    def __init__(self, seed: int, plan: Plan, path: Path) -> None:
        self.seed, self.plan, self.path = seed, plan, path
        self.loop = SimLoop(Random(f"{seed}/loop"), disk_seconds=plan.disk_seconds, slow_disk=plan.slow_disk)
        self.clock = SimClock(self.loop)
        self.trace = Trace(self.loop, self.clock)
        self.random = Random(f"{seed}/fate")
        self.world = World(self.loop, self.clock, self.trace, Random(f"{seed}/network"), plan.weather)
        self.oracle = SqliteStore(path)
        self.watch = Watch(self.loop, self.clock, self.oracle)
        self.processes: list[Process] = []
        self.engines: dict[Process, Engine] = {}
        self.stores: list[SqliteStore] = []
        self.admitted: list[str] = []  # coordinates that the door has acknowledged
        self.holder: Process | None = None  # who consumes
        self.over = False  # trouble is
        self.shaky: list[ShakyStore] = []
        self._left = {number: delivery.times for number, delivery in enumerate(plan.deliveries)}

    def run(self) -> Result:
        """To the end, whatever it is."""
        violations, journal = list[str](), list[Told]()
        with _told(self.trace):
            try:
                self.loop.run(self._main())
                story = story_of(self)
                violations, journal = check_all(story, self), story.told
            except RestlessError as failure:
                violations = [str(failure)]
            finally:
                self.trace.tell("END", draws=self.random.random(), network=self.world.random.random())
                self.loop.bury(self.processes)
                for store in (*self.stores, self.oracle):
                    self.loop.immediately(store.close())
        violations = [*self.watch.violations, *self.loop.errors, *violations]
        lines = tuple(self.trace.lines())
        return Result(
            seed=self.seed,
            violations=tuple(violations),
            trace=lines,
            journal=tuple(journal),
            digest=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        )

    async def _main(self) -> None:
        await self.oracle.open()
        self._weather()
        for _ in range(self.plan.engines):
            self._begin_engine()
        for _ in range(self.plan.crowds):
            self._begin_people()
        await asyncio.sleep(self.plan.seconds)
        await self._come_to_rest()

    # Processes.

    def _begin(
        self, name: str, life: Callable[[Process], Coroutine[Any, Any, None]], again: Callable[[], None]
    ) -> None:
        process = Process(f"{name}{len(self.processes)}")
        self.processes.append(process)
        context = contextvars.copy_context()
        context.run(PROCESS.set, process)
        context.run(self.loop.create_task, self._watched(process, life))
        if self.over:
            return
        if self.random.random() < self.plan.crash:
            process.fate[self._moment()] = lambda: self._crash(process, again)
        if self.random.random() < self.plan.freeze:
            process.fate[self._moment()] = lambda: self._freeze(process)

    async def _watched(self, process: Process, life: Callable[[Process], Coroutine[Any, Any, None]]) -> None:
        try:
            await life(process)
        except Exception as failure:  # noqa: BLE001 - a process that ends is a finding, whatever ended it
            self.watch.violations.append(f"{process.name} ended: {failure!r}")

    def _moment(self) -> int:
        return 1 + int(self.random.expovariate(1 / 600))

    def _crash(self, process: Process, again: Callable[[], None]) -> None:
        self.trace.tell("CRASH")
        self.loop.kill(process)
        self.world.after(0.1 + self.random.random(), again)

    def _freeze(self, process: Process) -> None:
        self.trace.tell("STOPPED")
        self.loop.freeze(process)
        seconds = 0.2 + self.random.random() * 3
        if self.random.random() < 0.8:
            self.world.after(self.random.random() * seconds, self._turn_clock, self.random.choice([15, 35, 60]))
        self.world.after(seconds, self._go_on, process)

    def _go_on(self, process: Process) -> None:
        if process.frozen and process.alive:
            self.trace.tell("goes on", process=process.name)
            self.loop.thaw(process)

    def _new_store(self) -> ShakyStore:
        real = SqliteStore(self.path)
        self.stores.append(real)
        store = ShakyStore(real, Random(f"{self.seed}/store{len(self.stores)}"), self._away())
        self.shaky.append(store)
        return store

    def _away(self) -> float:
        return 0.0 if self.over else self.plan.store_away

    def _ids(self, name: str) -> SimIds:
        return SimIds(self.clock, Random(f"{self.seed}/ids/{name}"))

    def _begin_engine(self) -> None:
        self._begin("engine", self._live, self._begin_engine)

    async def _live(self, process: Process) -> None:
        """One engine process until it dies; a start without a store is tried again, as a supervisor does."""
        policy = InlinePolicy(Random(f"{self.seed}/policy/{process.name}"), 0 if self.over else self.plan.policy_away)
        engine = Engine(
            name=process.name, store=self._new_store(), clock=self.clock, ids=self._ids(process.name),
            connectors=SimConnectors(self.world, self.watch.call), policy=policy,
        )  # fmt: skip
        self.engines[process] = engine
        try:
            await engine.start()
        except StoreUnavailableError:
            self.trace.tell("cannot start")
            self.loop.kill(process)
            self.world.after(0.5, self._begin_engine)
            return
        own = (engine.worker, engine.timekeeper, engine.usher, engine.sequencer)
        parts = (*(each.run for each in own), lambda: self._consume(process, engine))
        await asyncio.gather(*(part() for part in parts))

    def _begin_people(self) -> None:
        self._begin("people", self._act, self._begin_people)

    async def _act(self, process: Process) -> None:
        store: Any = self._new_store()
        try:
            await store.open()
        except StoreUnavailableError:
            self.loop.kill(process)
            self.world.after(0.5, self._begin_people)
            return
        await self._crowd(store, process.name).live()

    def _crowd(self, store: Any, name: str) -> Crowd:
        return Crowd(
            store=store, scribe=Scribe(clock=self.clock, ids=self._ids(name)), clock=self.clock, world=self.world,
            trace=self.trace, random=Random(f"{self.seed}/{name}"), meddling=self.plan.meddling,
        )  # fmt: skip

    # The source: batches come until they were acknowledged as often as the plan says.

    async def _consume(self, process: Process, engine: Engine) -> None:
        while True:
            if self.holder is None or not self.holder.alive or self.holder.frozen:
                self.holder = process  # the one before is taken for dead; it may come back
            due = self._due() if self.holder is process else None
            if due is None:
                await asyncio.sleep(0.2)
                continue
            number, delivery = due
            self.trace.tell("source delivers", batch=number)
            try:
                await engine.intake.admit(delivery.records)
            except StoreUnavailableError:
                await asyncio.sleep(0.3)
                continue
            self.admitted += [record.coordinates for record in delivery.records]
            self._left[number] -= 1

    def _due(self) -> tuple[int, Delivery] | None:
        for number, delivery in enumerate(self.plan.deliveries):
            if self._left[number] > 0 and delivery.at <= self.loop.time():
                return number, delivery
        return None

    # Trouble, and its end.

    def _weather(self) -> None:
        for at, by in self.plan.jumps:
            self.world.after(at, self._turn_clock, by)
        if self.plan.disk_full is not None:
            begin, seconds = self.plan.disk_full
            self.world.after(begin, self._disk, True)
            self.world.after(begin + seconds, self._disk, False)

    def _turn_clock(self, seconds: float) -> None:
        if not self.over:
            self.trace.tell("CLOCK", by=seconds)
            self.clock.offset += timedelta(seconds=seconds)

    def _disk(self, full: bool) -> None:
        self.trace.tell("DISK FULL" if full else "disk has room")
        self.loop.disk_full = full and not self.over

    async def _come_to_rest(self) -> None:
        """No more trouble; people clean up, time passes quickly, until nothing is left to do."""
        self.trace.tell("REST")
        self.over = True
        self.loop.calm()
        self.world.weather = FAIR
        for store in self.shaky:
            store.away = 0.0
        for engine in self.engines.values():
            engine.policy.away = 0.0
        living = [process for process in self.processes if process.alive]
        for process in living:
            process.fate.clear()
            self._go_on(process)
        # One engine is enough to bring all to rest, and whatever the others held is another's now.
        keep = next((process for process in living if process in self.engines), None)
        for process in living:
            if process is not keep:
                self.loop.kill(process)
        real = SqliteStore(self.path)
        self.stores.append(real)
        await real.open()
        crowd = self._crowd(real, "tidy")
        quiet, size = 0, -1
        for _ in range(ROUNDS):
            await asyncio.sleep(ROUND_SECONDS)
            now, _ = await self.oracle.tree()
            quiet, size = (quiet + 1 if now == size else 0), now
            if quiet % 2:
                await crowd.attempt(crowd.tidy)
            elif quiet and await self._at_rest():
                return
            elif quiet:
                await self._leap()
        raise RestlessError("after all trouble was over, the runs do not come to their ends: " + await self._standing())

    async def _at_rest(self) -> bool:
        left = any(times > 0 for times in self._left.values())
        runs = await self.oracle.runs(limit=1000)
        open_ = await self.oracle.approvals(state=ApprovalState.PENDING)
        return not left and not open_ and all(run.final for run in runs)

    async def _leap(self) -> None:
        """To the next moment that somebody waits for."""
        now = self.clock.now()
        moments = []
        for run in await self.oracle.runs(limit=1000):
            moments += [run.wake_at] if run.state is RunState.WAITING else []
            moments += [run.lease_until] if run.state is RunState.RUNNING else []
            moments += [now + timedelta(seconds=40)] if run.state is RunState.NEEDS_REVIEW else []
        due = sorted(moment for moment in moments if moment is not None and moment > now)
        if due:
            self.trace.tell("leap", to=f"{due[0]:%H:%M:%S}")
            self.clock.offset += due[0] - now + timedelta(seconds=0.01)

    async def _standing(self) -> str:
        runs = await self.oracle.runs(limit=1000)
        return "; ".join(
            f"{run.id} of {run.playbook_id} is {run.state}, wake_at {run.wake_at}, lease_until {run.lease_until}"
            for run in runs
            if not run.final
        )


@contextmanager
def _told(trace: Trace) -> Iterator[None]:
    """What soar logs goes into the trace."""

    def tell(_: Any, method: str, event: dict[str, Any]) -> str:
        word = event.pop("event")
        event.pop("exc_info", None)
        trace.tell(f"{method} {word}", **event)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[tell], wrapper_class=structlog.make_filtering_bound_logger(20), cache_logger_on_first_use=False
    )
    try:
        yield
    finally:
        structlog.configure(**before)


def _memory() -> str | None:
    """A folder in memory, where the system has one: real commits, without waiting for a disk."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() else None


@cache
def _empty_store() -> bytes:
    """The file of a store with its schema and nothing else."""
    with tempfile.TemporaryDirectory(prefix="soar-simulation-", dir=_memory()) as folder:
        store, loop = SqliteStore(Path(folder) / "empty.db"), SimLoop(Random(0))
        loop.immediately(store.open())
        loop.immediately(store.close())
        return store.path.read_bytes()
