"""One engine process: the real parts, put together as the service does it, on a simulated machine."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import orjson

from soar.engine.act import Actor
from soar.engine.approvals import ApprovalDesk
from soar.engine.authority import Authority
from soar.engine.control import Control
from soar.engine.intake import Intake
from soar.engine.interpreter import Interpreter
from soar.engine.leases import LeaseTimes
from soar.engine.people import People
from soar.engine.programs import Programs
from soar.engine.recorder import Recorder
from soar.engine.scribe import Scribe
from soar.engine.timekeeper import Sequencer, Timekeeper
from soar.engine.turns import Usher
from soar.engine.waits import Waits
from soar.engine.worker import Worker
from soar.errors import PolicyUnavailableError, StoreUnavailableError
from soar.ingest.mapping import Mappings, load_mappings
from soar.ingest.normalise import Normaliser
from soar.journal.note import Signer
from soar.library.folder import Library, load_folders
from soar.library.index import TriggerIndex
from soar.model.approval import Person
from soar.model.clock import Clock, Ids
from soar.model.entry import EntryType
from soar.policy.bundle import Bundle, load_bundle
from soar.policy.gate import Gate
from soar.policy.input import Environment, TimeFacts
from soar.policy.port import ENTRY_POINT, UNDEFINED, Answer
from soar.policy.rego import evaluate, new_engine
from soar.store.port import Fact, InsertPlaybook, Store

from .world import CATALOGUE, SimConnectors

HERE = Path(__file__).parent
ORIGIN = "simulation/journal"
PEOPLE = People(
    [
        Person(name="alice", groups=("soc",)),
        Person(name="bob", groups=("soc", "lead")),
        Person(name="carol", groups=("lead",)),
        Person(name="olga", groups=("soc", "lead")),
        Person(name="mallory", groups=()),
    ]
)


@dataclass(frozen=True)
class House:
    """What every process of every seed shares, and none changes."""

    library: Library
    index: TriggerIndex
    bundle: Bundle
    mappings: Mappings
    rego: Any
    signer: Signer


@cache
def house() -> House:
    """Playbooks, policy and mappings, read once."""
    library = load_folders([HERE / "playbooks"], CATALOGUE)
    assert not library.errors, [str(error) for error in library.errors]
    bundle = load_bundle(HERE / "policies")
    return House(
        library=library,
        index=TriggerIndex([playbook for playbook in library.playbooks.values() if playbook.on is not None]),
        bundle=bundle,
        mappings=load_mappings([]),
        rego=new_engine(bundle.modules, bundle.data_json),
        signer=Signer.generate(ORIGIN),
    )


@dataclass(eq=False)
class InlinePolicy:
    """The embedded engine without its thread; sometimes it is not there."""

    random: Random
    away: float  # share of questions that get no answer
    name: str = "inline"

    @property
    def revision(self) -> str:
        return house().bundle.revision

    async def evaluate(self, document: dict[str, Any]) -> Answer:
        return (await self.evaluate_many([document]))[0]

    async def evaluate_many(self, documents: Sequence[dict[str, Any]]) -> list[Answer]:
        await asyncio.sleep(self.random.random() * 0.01)
        if self.random.random() < self.away:
            raise PolicyUnavailableError("nobody decides just now")
        answers = [evaluate(house().rego, ENTRY_POINT, orjson.dumps(document)) for document in documents]
        return [Answer(self.revision, value if defined else UNDEFINED) for defined, value in answers]

    async def close(self) -> None:
        """It holds nothing."""


class ShakyStore:
    """A store that sometimes cannot be had, before anything was written: all that the port allows it."""

    def __init__(self, store: Store, random: Random, away: float) -> None:
        self.real = store
        self.away = away
        self._random = random

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if not self.away or name in {"open", "close", "listen"} or not asyncio.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self._random.random() < self.away:
                raise StoreUnavailableError("the store is away; nothing was written")
            return await found(*args, **kwargs)

        return call


@dataclass(eq=False)
class Engine:
    """The parts of one process, and the doors that others use."""

    name: str
    store: Any
    clock: Clock
    ids: Ids
    connectors: SimConnectors
    policy: InlinePolicy
    worker: Worker = field(init=False)

    def __post_init__(self) -> None:
        scribe = Scribe(clock=self.clock, ids=self.ids)
        self.scribe = scribe
        self.recorder = Recorder(self.store)
        programs = Programs(store=self.store, loaded=lambda: house().library.playbooks)
        self.usher = Usher(store=self.store, recorder=self.recorder, scribe=scribe, woken=self._wake)
        actor = Actor(
            store=self.store,
            turned=self.usher.ring,
            gate=Gate(self.policy, mandatory_controls=(), ids=self.ids, honours=("approval", "expire")),
            connectors=self.connectors,
            people=PEOPLE,
            environment=Environment(name="simulation", tenant="simulation"),
            times=LeaseTimes(),
        )
        self.worker = Worker(
            name=self.name,
            store=self.store,
            recorder=self.recorder,
            scribe=scribe,
            programs=programs,
            interpreter=Interpreter(actor=actor, waits=Waits(store=self.store, programs=programs), store=self.store),
            times=LeaseTimes(),
        )
        self.timekeeper = Timekeeper(
            store=self.store, recorder=self.recorder, scribe=scribe, woken=self.worker.wake, times=LeaseTimes()
        )
        self.sequencer = Sequencer(store=self.store, signer=house().signer, origin=ORIGIN)
        normaliser = Normaliser(house().mappings, self.ids, self.clock)
        self.intake = Intake(
            store=self.store,
            scribe=scribe,
            normalise=normaliser.normalise,
            index=lambda: house().index,
            admitted=self.worker.wake,
        )

    def _wake(self) -> None:
        self.worker.wake()

    async def start(self) -> None:
        """Open the store and tell the journal what is in force; raises StoreUnavailableError."""
        await self.store.open()
        await self.recorder.start()
        await self.sequencer.check()
        library = house().library
        pins = tuple(
            InsertPlaybook(digest=p.digest, playbook_id=p.id, file=p.file, text=library.text_of(p.digest))
            for p in library.playbooks.values()
        )
        told = self.scribe.entry(EntryType.SERVICE_STARTED, self.name)
        await self.recorder.record(Fact(writes=pins, entries=(told,)))


def desk(store: Store, scribe: Scribe) -> ApprovalDesk:
    """Where people's words are taken, as another process of the same machine does it."""
    return ApprovalDesk(store=store, scribe=scribe, people=PEOPLE, authority=authority(store, scribe))


def control(store: Store, scribe: Scribe, person: str) -> Control:
    """What a person may do to runs."""
    return Control(store=store, scribe=scribe, person=person, authority=authority(store, scribe))


def authority(store: Store, scribe: Scribe) -> Authority:
    """Policy as everywhere; the simulation's says nothing about people."""
    return Authority(
        store=store,
        scribe=scribe,
        people=PEOPLE,
        bundle=lambda: house().bundle,
        facts=lambda: TimeFacts.of(scribe.clock.now()),
        environment=Environment(name="simulation", tenant="simulation"),
    )
