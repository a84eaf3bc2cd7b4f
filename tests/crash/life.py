"""One life of a service process under watch: it starts, does what there is to do, and stops, unless it dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from soar.cli import keys
from soar.cli.stored import Stored
from soar.connector.registry import Registry
from soar.engine import retention
from soar.engine.control import Control
from soar.engine.people import People
from soar.engine.retention import Retention
from soar.engine.scribe import Scribe
from soar.errors import StateConflictError, StoreError
from soar.ingest.mapping import Mappings, load_mappings
from soar.journal.verify import StoredEntry
from soar.library.folder import Library, load_folders
from soar.model.action import ActionRequest
from soar.model.alert import Record
from soar.model.approval import Approval, ApprovalState, Person
from soar.model.clock import Ids, UlidSource
from soar.model.run import Run, RunKind, RunState, StepRecord
from soar.policy.bundle import Bundle, load_bundle
from soar.service import Running, Service, promoting, reloading
from soar.service.assembly import build_registry, library_of
from soar.service.keys import next_path
from soar.service.storage import archive_of, evidence_of, store_of
from soar.settings import Loaded, load_settings
from soar.store.evidence import examine
from soar.store.port import Fact, InsertAttempt, Store
from tests.engine.house import TestClock, settle

from .oracle import Found, calls_of, found
from .watch import Watch, WatchedStore

_ROUNDS = 80  # of people, time and rest; a scenario that takes more goes round in circles
_SOON_SECONDS = 0.01
_PAYLOADS_MAX = 7  # leave in one transaction: so few that it takes several, so many that the last is not full


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Playbooks, the alerts that start them, and what people do meanwhile.

    `act` is asked whenever all rests, and does one thing that the state of the store calls for: so it goes on rightly
    in a process that knows nothing of the one before.
    """

    name: str
    playbooks: Mapping[str, str]  # a text that begins with + is only called by others
    alerts: Sequence[Mapping[str, Any]] = ({},)
    act: Callable[[Life], Awaitable[bool]] | None = None
    faults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # the lab's, by path
    raw: Sequence[bytes] = ()  # records that are no alerts
    dies_first: Sequence[str] = ()  # deaths that belong to the story, see `Watch`
    same_ids: bool = False  # alerts all get one id, as from a broken source of names
    undecided: bool = False  # policy is away when the first life begins
    vanishes: str | None = None  # a playbook that is gone after the start
    store_fault: str | None = None  # `bug`, `conflict` or `late`: what befalls the store
    witnessed: bool = False
    settings: Mapping[str, Any] | None = None  # of a home of its own, which each life reads anew
    files: Mapping[str, str] = field(default_factory=dict)  # in that home, by path


@dataclass(frozen=True)
class Parts:
    """What a service is made of and no life changes: read and compiled once, before any life is forked."""

    clock: TestClock
    registry: Registry
    library: Library
    mappings: Mappings
    bundle: Bundle

    @classmethod
    def of(cls, config: Path) -> Parts:
        """As `assemble` builds them."""
        loaded, clock = load_settings(config, {}), TestClock()
        registry = build_registry(loaded, clock)
        bundle = load_bundle(loaded.path(loaded.settings.policy.path))
        return cls(clock, registry, load_folders([], registry.catalogue()), load_mappings([]), bundle)

    def playing(self, scenario: Scenario, folder: Path) -> Parts:
        """The same with a scenario's playbooks."""
        library = load_folders([folder], self.registry.catalogue())
        assert not library.errors, [str(error) for error in library.errors]
        left = {name: playbook for name, playbook in library.playbooks.items() if name != scenario.vanishes}
        return replace(self, library=replace(library, playbooks=left))

    def read_anew(self, loaded: Loaded) -> Parts:
        """The same with the playbooks and policies that a configuration names, as they stand now."""
        library = library_of(loaded, self.registry.catalogue())
        bundle = load_bundle(loaded.path(loaded.settings.policy.path))
        assert not library.errors, [str(error) for error in library.errors]
        return replace(self, library=library, bundle=bundle)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One life after another on one store."""

    scenario: Scenario
    parts: Parts
    config: Path
    environ: Mapping[str, str]  # names the store
    schema: str | None  # to make before, on PostgreSQL
    number: int
    lab_log: Path
    lab_from: int  # the size of the lab's log before

    @property
    def home(self) -> Path:
        """The folder of its configuration."""
        return self.config.parent

    @property
    def tag(self) -> str:
        """What nothing else in the lab is called."""
        return f"case-{self.number}"

    def records(self, now: datetime) -> list[Record]:
        """What the source delivers, again in each life."""
        values = [self.body(index, alert) for index, alert in enumerate(self.scenario.alerts)]
        return [self.record(offset, value, now) for offset, value in enumerate([*values, *self.scenario.raw])]

    def record(self, offset: int, value: bytes, now: datetime) -> Record:
        """A record of the source."""
        return Record(source="test", topic="t", offset=offset, value=value, mapping="generic", received_at=now)

    def body(self, index: int, fields: Mapping[str, Any]) -> bytes:
        """An alert as it is sent."""
        name = f"{self.tag}-{index}"
        rule = next(iter(self.scenario.playbooks), "none")
        address = f"10.{self.number // 250}.{self.number % 250}.{index % 250 + 1}"
        body = {"id": name, "rule": rule, "title": name, "severity": "high", "host": name, "address": address}
        return json.dumps({**body, **fields}).encode()

    def sent(self) -> list[dict[str, Any]]:
        """What reached the lab since this case began, by its own log."""
        with self.lab_log.open("rb") as log:
            log.seek(self.lab_from)
            return [json.loads(line) for line in log.read().split(b"\n")[:-1]]


class OneId:
    """A source of names that gives all alerts the same."""

    def __init__(self, name: str) -> None:
        self._inner = UlidSource()
        self._name = name

    def new(self, kind: str) -> str:
        """See `Ids`."""
        return self._name if kind == "alert" else self._inner.new(kind)


class FaultyStore:
    """A store at which a run meets what nobody thought of."""

    def __init__(self, inner: Any, fault: str) -> None:
        self._inner = inner
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def alert_documents(self, alert_ids: Collection[str]) -> Any:
        if self._fault == "bug":
            raise ZeroDivisionError("a bug")
        return await self._inner.alert_documents(alert_ids)

    async def due_approvals(self, now: datetime, limit: int) -> list[Approval]:
        """Where it is `late`, the timekeeper is: whoever comes to send what was granted finds that its time is over."""
        found: list[Approval] = await self._inner.due_approvals(now, limit)
        late = self._fault == "late"
        return [each for each in found if not (late and each.state is ApprovalState.GRANTED)]

    async def commit(self, facts: Sequence[Fact]) -> list[StoreError | None]:
        intents = [write for fact in facts for write in fact.writes if isinstance(write, InsertAttempt)]
        if self._fault == "conflict" and any(intent.attempt.path == "second" for intent in intents):
            return [StateConflictError("somebody else was first") for _ in facts]
        found: list[StoreError | None] = await self._inner.commit(facts)
        return found


@dataclass
class Life:
    """A service at work in this process; `inner` is its store without the watch."""

    case: Case
    service: Service
    inner: Store
    clock: TestClock
    running: Running = field(init=False)
    undecided: bool = False
    erased: bool = False  # whether a person's word to erase was carried out whole in this life

    @property
    def store(self) -> Store:
        """The store under watch."""
        return self.service.store

    async def run_of(self, playbook: str) -> Run:
        """The one run of a playbook that an alert started."""
        (run,) = [run for run in await self.inner.runs(playbook_id=playbook) if run.kind is RunKind.ALERT]
        return run

    async def step(self, run: Run, path: str) -> StepRecord | None:
        """How a step stands."""
        return (await self.inner.steps(run.id)).get(path)

    async def pending(self) -> list[Approval]:
        """What waits for people."""
        return await self.inner.approvals(state=ApprovalState.PENDING)

    async def busy(self) -> bool:
        """Whether a run could go on still: `settle` does not wait long for one that nobody takes."""
        runs = (await self.inner.counts()).runs
        return bool(runs.get(RunState.READY) or runs.get(RunState.RUNNING))

    async def told(self) -> set[str]:
        """The types of all entries."""
        return {row.type async for row in self.inner.entries()}

    def control(self) -> Control:
        """What a person may do."""
        return self.service.control("alice")

    async def vote(self, approval: Approval, person: str = "alice", decision: str = "grant", **more: Any) -> None:
        """One person's word."""
        desk = self.service.desk(self.running.worker.wake)
        await desk.vote(approval.id, person=person, decision=decision, digest=approval.digest, method="cli", **more)

    def write(self, path: str, text: str) -> None:
        """Change a file of the home, whole: who reads it meanwhile finds the old one or the new."""
        file = self.case.home / path
        half = file.with_suffix(".half")
        half.write_text(text)
        half.replace(file)

    async def until(self, come: Callable[[], Awaitable[bool]]) -> None:
        """Until something has come that no event tells of."""
        async with asyncio.timeout(60):
            while not await come():  # noqa: ASYNC110
                await asyncio.sleep(_SOON_SECONDS)

    @contextlib.asynccontextmanager
    async def lent(self, _: Path | None) -> AsyncIterator[Stored]:
        """What a command works on, with the store that is under watch: see `soar.cli.stored.stored`."""
        yield Stored(self.service.loaded, self.store, self.service.scribe)

    async def rotate(self) -> None:
        """As `soar keys rotate` does, while the service is stopped."""
        self.service.held.close()
        keys.stored = self.lent  # type: ignore[assignment]  # does the same
        await keys._rotate("a test", "alice", None)

    def happened(self, request: ActionRequest) -> bool:
        """Whether an action took effect, by the lab's own log."""
        return any(line["applied"] for line in calls_of(request, self.case.sent()))

    async def deliver(self, offset: int, **fields: Any) -> bool:
        """One record more from the source; False where it came before."""
        record = self.case.record(offset, self.case.body(offset, fields), self.clock.now())
        if record.coordinates in {row.coordinates for row in await self.inner.alerts(limit=1000)}:
            return False
        await self.running.admit([record])
        return True

    async def restart(self) -> None:
        """Stop the service in good order and start it again."""
        await self.running.stop()
        self.undecided = False
        await self.start()

    async def start(self) -> None:
        """Let the service work."""
        self.running = _running(self.service)
        await self.running.start()

    async def live(self) -> None:
        """Start, do all there is to do, stop."""
        if next_path(self.service.loaded).exists():  # no service starts before whoever began it has ended it
            await self.rotate()
        await self.start()
        if self.case.scenario.undecided and not await self.inner.runs():
            self.undecided = True
            await self.running.gate.close()
        await self.running.admit(self.case.records(self.clock.now()))
        act = self.case.scenario.act
        for _ in range(_ROUNDS):
            await settle(self)  # type: ignore[arg-type]  # has all that is asked of a house
            if not (act is not None and await act(self)) and not await self._pass_time():
                await self.running.stop()
                return
        raise AssertionError(f"{self.case.scenario.name} does not come to its end")

    async def _pass_time(self) -> bool:
        """On to the next instant that anybody waits for, if there is one."""
        waiting = await self.inner.runs(state=RunState.WAITING, limit=1000)
        moments = [run.wake_at for run in waiting if run.wake_at is not None and not run.paused]
        moments += [approval.decide_by for approval in await self.pending()]
        if not moments:
            return False
        self.clock.offset += max(min(moments) - self.clock.now(), timedelta()) + timedelta(milliseconds=1)
        return True


def live(case: Case, watch: Watch) -> None:
    """The whole life of a process; what was found at its end, or what went wrong, is left on the slate."""
    try:
        watch.end(asyncio.run(_live(case, watch)))
    except BaseException:
        watch.fail(traceback.format_exc())
        raise


async def _live(case: Case, watch: Watch) -> Found:
    if case.schema is not None:
        await _make_schema(case)
    if case.scenario.settings is not None:
        # What looks only now and then looks at once: nobody waits for time that is not the lives' own.
        reloading.WATCH_SECONDS = promoting.LOOK_SECONDS = _SOON_SECONDS
        promoting.AGAIN_SECONDS = 10 * _SOON_SECONDS  # each time costs the tests of the policies
        retention.FIRST_SECONDS = retention.PAUSE_SECONDS = 0.0
    service = _service(case, watch)
    inner = service.store.inner  # type: ignore[attr-defined]  # both that we put around it lead to it
    await inner.open()
    life = Life(case, service, inner, case.parts.clock)
    await life.live()
    journal = await asyncio.to_thread(_examined, service)
    for traffic in await inner.traffic(life.clock.now()):
        assert (traffic.under_way, traffic.queued) == (0, 0), f"somebody waits for a turn for ever: {traffic}"
    try:
        archive, records = archive_of(service.loaded), case.records(life.clock.now())
        return await found(inner, archive, journal, records, case.sent(), case.tag)
    finally:
        service.held.close()
        await service.registry.close()
        await inner.close()


def _service(case: Case, watch: Watch) -> Service:
    """What `assemble` makes, of parts that are made already, on a store under watch."""
    parts, loaded = case.parts, load_settings(case.config, case.environ)
    if case.scenario.settings is not None:
        parts = parts.read_anew(loaded)
    ids: Ids = OneId(f"alert-{case.tag}") if case.scenario.same_ids else UlidSource(parts.clock)
    store: Any = WatchedStore(store_of(loaded), watch)
    fault = case.scenario.store_fault
    return Service(
        loaded=loaded,
        clock=parts.clock,
        ids=ids,
        store=FaultyStore(store, fault) if fault else store,
        registry=parts.registry,
        library=parts.library,
        mappings=parts.mappings,
        bundle=parts.bundle,
        people=People([Person(name=person.name, groups=person.groups) for person in loaded.settings.people]),
        scribe=Scribe(clock=parts.clock, ids=ids),
        held=contextlib.ExitStack(),
    )


def _running(service: Service) -> Running:
    """The service at work; what is old leaves in batches smaller than its own."""
    running = Running(service)
    days = service.loaded.settings.retention.days
    if days is not None:
        folder = archive_of(service.loaded)
        running.retention = Retention(
            store=service.store,
            scribe=service.scribe,
            folder=folder,
            days=days,
            payloads_max=_PAYLOADS_MAX,
            rows_max=1,
        )
    return running


def _examined(service: Service) -> list[StoredEntry]:
    """The whole journal with what the archive holds of it, as an auditor finds it, who finds nothing wrong."""
    journal: list[StoredEntry] = []

    def reading(entries: Iterable[StoredEntry], _: int) -> Iterator[StoredEntry]:
        for entry in entries:
            journal.append(entry)
            yield entry

    with evidence_of(service.loaded) as (evidence, archive):
        examined = examine(evidence, key=service.signer().verifier, archive=archive, watch=reading)
    assert examined.ok, examined.findings
    assert not examined.away, "files of the archive are not there"
    return journal


async def _make_schema(case: Case) -> None:
    db = await asyncpg.connect(case.environ["DATABASE"].partition("?")[0])
    await db.execute(f"CREATE SCHEMA IF NOT EXISTS {case.schema}")
    await db.close()
