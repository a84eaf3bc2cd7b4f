"""A stream of records from Kafka, while brokers, workers and PostgreSQL die under it; counted by the ledger."""

import asyncio
import contextlib
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .brokers import Broker, open_broker
from .databases import Server
from .feeding import Feeder, Watch
from .fleet import ROOT
from .kills import ended
from .ledger import Spec
from .oracle import AWAY, Database, Verdict
from .records import HUGE_BYTES, Mix, records
from .restarts import Restarts, hit
from .site import EXPECTED, Site, open_site, until

TOPIC, LETTERS, EVENTS, GROUP = "alerts", "letters", "soar.events", "chaos"
PARTITIONS = 6
SESSION_SECONDS = 6.0  # the shortest that a broker allows
AGAIN_AT_MOST_SECONDS = 60.0
PATIENCE_SECONDS = 180.0  # with a worker that is asked to end on a busy machine
HINTS = ("send an alert: ", "what waits for you: ", "stopping: ")
"""What workers print when all is well; of their log only errors are kept."""
WAYS = ("leave", "stop", "kill")


@dataclass(frozen=True, kw_only=True)
class Stream:
    """How much, and how hard. Blows of one kind follow each other, the kinds come at the same time."""

    records: int  # at least: they come as long as there are blows
    mix: Mix = field(default_factory=Mix)
    workers: int = 3
    per_second: float = 1e6
    unread: int = 20_000  # no more are sent while so many wait
    broker_kills: int = 0
    broker_away_seconds: tuple[float, ...] = ()
    worker_blows: int = 0
    between_seconds: tuple[float, float] = (1.0, 6.0)
    sending: bool = True  # dead letters and events, which after a kill wait for half a minute
    lease_seconds: float = 15.0
    rest_seconds: float = 300.0
    again_seconds: float = AGAIN_AT_MOST_SECONDS


@dataclass
class Scene:
    """Everything that a stream runs on."""

    site: Site
    broker: Broker
    watch: Watch
    feeder: Feeder
    plan: Stream
    rng: random.Random
    struck: Counter[str] = field(default_factory=Counter)
    again: list[float] = field(default_factory=list)
    died: list[str] = field(default_factory=list)

    @property
    def unread(self) -> int:
        """Records that are in the topic and not behind the group, as far as is known."""
        return self.feeder.acknowledged - self.watch.committed

    async def feed(self, enough: Callable[[], bool]) -> None:
        """Send as many records as there must be, and go on until it is enough."""
        await self.feeder.feed(
            lambda: self.feeder.acknowledged >= self.plan.records and enough(),
            room=self._room,
            per_second=self.plan.per_second,
        )

    def _room(self) -> bool:
        workers = self.site.workers.values()
        assert not workers or any(worker.alive for worker in workers), "no worker is left; worker-*.log say why"
        return self.unread < self.plan.unread

    async def pause(self) -> None:
        await asyncio.sleep(self.rng.uniform(*self.plan.between_seconds))


async def play(scene: Scene, *, restarted: tuple[Server, Restarts] | None = None) -> Verdict:
    """Send records through all blows, let everything come to rest, count; PostgreSQL may be restarted meanwhile."""
    await start_workers(scene)
    hits: Counter[str] = Counter()
    blows = [asyncio.create_task(strike_broker(scene)), asyncio.create_task(strike_workers(scene))]
    if restarted is not None:
        server, often = restarted
        hitting = asyncio.create_task(hit(server, random.Random(scene.plan.records), often, hits))
    try:
        await scene.feed(lambda: all(blow.done() for blow in blows))
        await asyncio.gather(*blows)
    finally:
        await ended(*blows)
        if restarted is not None:
            await ended(hitting)
            await server.start()
    scene.struck.update({f"postgres_{way}": times for way, times in hits.items()})
    await rest(scene)
    return await judge(scene)


@contextlib.asynccontextmanager
async def open_scene(folder: Path, *, seed: int, plan: Stream, database: str) -> AsyncIterator[Scene]:
    """A broker, a home, a lab; no workers yet."""
    async with (
        open_broker() as broker,
        open_site(folder, seed=seed, database=database, workers=plan.workers, lease_seconds=plan.lease_seconds) as site,
    ):
        await broker.topic(TOPIC, partitions=PARTITIONS, largest_bytes=2 * HUGE_BYTES)
        await broker.topic(LETTERS, partitions=1)
        await broker.topic(EVENTS, partitions=PARTITIONS)
        configure(site, broker, sending=plan.sending)
        watch = Watch(broker.servers, TOPIC, GROUP, site)
        feeder = Feeder(broker.servers, TOPIC, records(site.tag, seed, plan.mix), partitions=PARTITIONS)
        watching = asyncio.create_task(watch.run())
        try:
            yield Scene(site, broker, watch, feeder, plan, random.Random(seed))
        finally:
            await ended(watching)
            await feeder.close()


def configure(site: Site, broker: Broker, *, sending: bool) -> None:
    """Workers are `soar run` itself, and consume the topic."""
    site.role = "run"
    kafka = {
        "bootstrap_servers": broker.servers,
        "topics": [TOPIC],
        "group_id": GROUP,
        "session_timeout_ms": round(SESSION_SECONDS * 1000),
    }
    sections: dict[str, object] = {"kafka": kafka}
    if sending:
        sections = {"kafka": kafka | {"dead_letter_topic": LETTERS}, "events": {"kafka": {"topic": EVENTS}}}
    with site.config.open("a") as file:
        file.writelines(f"\n{name}: {json.dumps(section)}\n" for name, section in sections.items())


async def start_workers(scene: Scene) -> None:
    for slot in range(scene.plan.workers):
        await scene.site.start(slot)
    for slot in range(scene.plan.workers):
        await scene.site.up(slot, PATIENCE_SECONDS)


async def strike_broker(scene: Scene) -> None:
    """Kill it and start it again soon, so many times; then let it be away for long."""
    spans = [scene.rng.uniform(0, 2) for _ in range(scene.plan.broker_kills)]
    for seconds in (*spans, *scene.plan.broker_away_seconds):
        await scene.pause()
        before = scene.watch.committed
        await scene.broker.end(signal.SIGKILL)
        await asyncio.sleep(seconds)
        await scene.broker.start()
        scene.struck["broker_killed"] += 1
        scene.again.append(round(await scene.watch.beyond(before, seconds=300), 1))


async def strike_workers(scene: Scene) -> None:
    """One after the other leaves in order, is stopped past session and lease, or is killed; and comes again."""
    ways = [WAYS[number % len(WAYS)] for number in range(scene.plan.worker_blows)]
    scene.rng.shuffle(ways)
    for way in ways:
        await scene.pause()
        slot = scene.rng.randrange(scene.plan.workers)
        worker = scene.site.workers[slot]
        if not worker.alive:
            scene.died.append(f"worker {slot}; see worker-{slot}.log")
        if way == "stop":
            worker.send(signal.SIGSTOP)
            await asyncio.sleep(max(SESSION_SECONDS, scene.plan.lease_seconds) + 2)
            worker.send(signal.SIGCONT)
        else:
            await (worker.stop(PATIENCE_SECONDS) if way == "leave" else worker.kill())
            await scene.pause()
            await scene.site.start(slot)
        scene.struck[f"worker_{way}"] += 1


async def rest(scene: Scene) -> None:
    """Until all is consumed, no run is under way and no dead letter waits; then stop the workers in order."""
    scene.died += [f"worker {slot}" for slot, worker in scene.site.workers.items() if not worker.alive]
    for slot in range(scene.plan.workers):
        if not scene.site.workers[slot].alive:
            await scene.site.start(slot)
    database = Database(scene.site)

    ends = await scene.watch.ends()

    async def rests() -> bool:
        with contextlib.suppress(*AWAY):
            left = scene.watch.committed < ends or await database.active()
            return not (left or (scene.plan.sending and await database.unsent()))
        return False

    with contextlib.suppress(AssertionError):  # what is not done by then is counted
        await until(rests, seconds=scene.plan.rest_seconds, what="all is at rest")
    for slot in sorted(scene.site.workers):
        await scene.site.workers[slot].stop(PATIENCE_SECONDS)


async def judge(scene: Scene, *, to_the_end: bool = True) -> Verdict:
    """What the ledger says, in a process of its own, and what was seen from here."""
    verdict = await ledger(spec_of(scene, to_the_end=to_the_end))
    again = scene.again
    verdict.counts |= {"blows": dict(scene.struck), "most_megabytes_of_a_worker": scene.watch.most_megabytes}
    if again:
        verdict.counts["consuming_again_seconds"] = {"most": max(again), "each": again}
    late = [f"{seconds} s" for seconds in again if seconds > scene.plan.again_seconds]
    verdict.wrong("consuming_again_too_late", late)
    verdict.wrong("workers_that_ended", scene.died)
    said = [line for log in scene.site.folder.glob("worker-*.log") for line in log.read_text().splitlines()]
    verdict.wrong("errors_logged", [line for line in said if line and not line.startswith(HINTS)])
    return verdict


def spec_of(scene: Scene, *, to_the_end: bool = True) -> Spec:
    """Where the ledger finds its witnesses."""
    assert scene.site.database is not None
    sent = scene.plan.sending and to_the_end
    return Spec(
        servers=scene.broker.servers,
        topic=TOPIC,
        group=GROUP,
        database=scene.site.database,
        lab_log=str(scene.site.lab_log),
        letters=LETTERS if sent else None,
        events=EVENTS if sent else None,
        acknowledged=scene.feeder.acknowledged,
        to_the_end=to_the_end,
        effects=EXPECTED | {"slow": {"isolate": 1}},
    )


async def ledger(spec: Spec) -> Verdict:
    """Have it counted."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.ledger", json.dumps(asdict(spec)), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, "the ledger ended with an error, which it printed"
    return Verdict(**json.loads(printed))
