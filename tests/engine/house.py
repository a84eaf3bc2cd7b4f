"""A whole house for a test: its own folder, lab, clock and store, real parts throughout."""

import asyncio
import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from soar.demo.home import make_home
from soar.engine.admission import Admitted
from soar.engine.audit import verify_store
from soar.engine.control import Control
from soar.journal.leaf import parse_leaf
from soar.journal.verify import Report
from soar.lab import LabServer, read_log
from soar.model.alert import Record
from soar.model.approval import Approval, ApprovalState
from soar.model.run import Run, RunState, StepRecord
from soar.service import Running, Service, assemble
from soar.settings import Loaded, load_settings
from soar.store.port import Store

TOKEN = "lab-token-of-a-test"

DECISION = """
package soar.main

decision := {{
    "schema": "soar.decision/v1",
    "effect": {effect},
    "reasons": [],
    "warnings": [],
    "obligations": {obligations},
    "controls_evaluated": ["test"],
}}
{rules}
"""
ALLOW = DECISION.format(effect='"allow"', obligations="[]", rules="")
DENY_CONTAIN = DECISION.format(
    effect="effect",
    obligations="[]",
    rules='default effect := "allow"\n\neffect := "deny" if input.action.risk == "contain"\n',
)


def ask(groups: str, **more: Any) -> str:
    """Rego that asks people before what contains; `groups` such as `soc-lead` or `soc-lead,ir-manager`."""
    quorum = [{"group": group, "min": 1} for group in groups.split(",")]
    obligation = json.dumps({"type": "approval", "groups": quorum, **more})
    rules = f"""
default effect := "allow"

effect := "require_approval" if input.action.risk == "contain"

default obligations := []

obligations := [{obligation}] if input.action.risk == "contain"
"""
    return DECISION.format(effect="effect", obligations="obligations", rules=rules)


class TestClock:
    """The machine's time, moved by as much as a test says."""

    __test__ = False

    def __init__(self) -> None:
        self.offset = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset


@dataclass
class House:
    """The service at work on its own home; a test reads the lab's log and the journal."""

    folder: Path
    lab: LabServer
    clock: TestClock = field(default_factory=TestClock)
    wrap: Callable[[Store], Store] | None = None
    environ: dict[str, str] = field(default_factory=dict)  # such as another store
    service: Service = field(init=False)
    running: Running = field(init=False)
    _stack: contextlib.AsyncExitStack = field(init=False)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def loaded(self) -> Loaded:
        return load_settings(self.folder / "soar.yaml", self.environ)

    @property
    def store(self) -> Store:
        return self.service.store

    def playbook(self, text: str, name: str = "it") -> None:
        """Put a playbook into the folder; it starts with every alert whose rule is its name, unless it says `on`."""
        head = f"playbook: {name}\ndescription: A test's.\nowner: soc\n"
        trigger = "" if "\non:" in f"\n{text}" else f"on: {{match: {{rule.name: {name}}}}}\n"
        (self.folder / "playbooks" / f"{name}.yaml").write_text(head + trigger + text)

    def called(self, text: str, name: str) -> None:
        """Put a playbook into the folder that only others call."""
        head = f"playbook: {name}\ndescription: A test's.\nowner: soc\n"
        (self.folder / "playbooks" / f"{name}.yaml").write_text(head + text)

    def policy(self, rego: str) -> None:
        (self.folder / "policies" / "main.rego").write_text(rego)

    def people(self, **groups: str) -> None:
        """Say who is in which groups: `alice="soc-lead"`."""
        text = (self.folder / "soar.yaml").read_text()
        before, _, rest = text.partition("people:\n")
        after = rest[rest.index("cli:") :]
        rows = "".join(f"  - {{name: {name}, groups: [{group}]}}\n" for name, group in groups.items())
        (self.folder / "soar.yaml").write_text(f"{before}people:\n{rows}{after}")

    async def start(self) -> None:
        """Open the home and let the service work; broken playbooks fail the test here."""
        self._stack = contextlib.AsyncExitStack()
        self.service = await self._stack.enter_async_context(assemble(self.loaded, clock=self.clock))
        assert not self.service.library.errors, [str(error) for error in self.service.library.errors]
        if self.wrap is not None:
            self.service.store = self.wrap(self.service.store)
        self.running = Running(self.service)
        await self.running.start()

    async def stop(self) -> None:
        await self.running.stop()
        await self._stack.aclose()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def record(self, uid: str | None = None, **fields: Any) -> Record:
        number = next(self._numbers)
        body = {"id": uid or f"alert-{number}", "rule": "it", "title": "A title", "severity": "high", **fields}
        return self.raw(json.dumps(body).encode(), number)

    def raw(self, value: bytes, number: int | None = None) -> Record:
        offset = next(self._numbers) if number is None else number
        return Record(
            source="test", topic="alerts", offset=offset, value=value, mapping="generic", received_at=self.clock.now()
        )

    async def admit(self, **fields: Any) -> Admitted:
        """Admit one alert, do not wait for what it starts."""
        return (await self.running.admit([self.record(**fields)]))[0]

    async def go(self, **fields: Any) -> Run:
        """Admit one alert and come back when the run that it started rests."""
        admitted = await self.admit(**fields)
        await self.rest()
        return await self.run(admitted.run_ids[0])

    async def rest(self) -> None:
        """Until no run is ready or running, nor due."""
        await settle(self)

    async def pass_time(self, seconds: float) -> None:
        """Move the clock and let what is due happen."""
        self.clock.offset += timedelta(seconds=seconds)
        await self.rest()

    async def run(self, run_id: str) -> Run:
        found = await self.store.run(run_id)
        assert found is not None
        return found

    async def the_run(self, playbook: str = "it", state: RunState | None = None) -> Run:
        (found,) = await self.store.runs(playbook_id=playbook, state=state)
        return found

    async def step(self, run: Run, path: str) -> StepRecord:
        return (await self.store.steps(run.id))[path]

    async def pending(self) -> Approval:
        """The one approval that waits for people."""
        (found,) = await self.store.approvals(state=ApprovalState.PENDING)
        return found

    async def grant(self, person: str = "alice", **more: Any) -> Approval:
        return await self.vote(person, "grant", **more)

    async def vote(self, person: str, decision: str, approval: Approval | None = None, **more: Any) -> Approval:
        """One person's word on what waits; comes back when all rests."""
        about = approval or await self.pending()
        desk = self.service.desk(self.running.worker.wake)
        after = await desk.vote(
            about.id, person=person, decision=decision, method="cli", **{"digest": about.digest, **more}
        )
        await self.rest()
        return after

    def control(self, person: str = "alice") -> Control:
        return self.service.control(person)

    def sent(self, method: str | None = None) -> list[dict[str, Any]]:
        """What reached the lab, by its own log."""
        return [line for line in read_log(self.lab.log_path) if method in {None, line["method"]}]

    async def until_sent(self, count: int = 1) -> None:
        """Until so many requests reached the lab."""
        async with asyncio.timeout(60):
            while True:
                if len(self.sent()) >= count:
                    return
                await asyncio.sleep(0.01)

    def effects(self) -> list[str]:
        """What changed in the lab, by its own log."""
        return [line["effect"] for line in self.sent() if line["applied"]]

    async def told(self, run: Run | None = None, kind: str = "") -> list[dict[str, Any]]:
        """Entries of the journal whose type begins with `kind`: the leaf's fields, and the payload under `body`."""
        rows = [row async for row in self.store.entries(run_id=run.id if run else None)]
        return [
            {**parse_leaf(row.leaf), "body": json.loads(row.payload) if row.payload else {}}
            for row in rows
            if row.type.startswith(kind)
        ]

    async def verify(self) -> Report:
        """Check the whole journal against its signed checkpoints."""
        await self.running.sequencer.sign()
        return await self.verify_of(self.store)

    async def verify_of(self, store: Store) -> Report:
        """Check a journal that this house's key signed."""
        origin = self.service.loaded.settings.journal.origin
        return await verify_store(store, verifier=self.service.signer().verifier, origin=origin)


async def settle(house: House) -> None:
    """Until no run is running or due, and none is ready but those that a lock keeps: nobody takes them for long."""
    untaken = 0
    async with asyncio.timeout(60):
        while untaken < 25:
            due = await house.running.timekeeper.tick() or (await house.store.calls(house.clock.now())).turns
            house.running.usher.ring()
            house.running.worker.wake()
            runs = (await house.store.counts()).runs
            busy = due or runs.get(RunState.RUNNING)
            if not busy and not runs.get(RunState.READY):
                return
            untaken = 0 if busy else untaken + 1
            await asyncio.sleep(0.01)


def fill_home(folder: Path, lab_url: str) -> None:
    """A home whose playbooks and policies are the test's own."""
    make_home(folder, lab_url=lab_url, lab_token=TOKEN, origin="soar.test/journal")
    for kind in ("playbooks", "policies"):
        shutil.rmtree(folder / kind)
        (folder / kind).mkdir()
    (folder / "policies" / "main.rego").write_text(ALLOW)


@contextlib.asynccontextmanager
async def open_house(folder: Path) -> AsyncIterator[House]:
    """A house that is not started yet; it is stopped, and its lab ended, at the end."""
    lab = LabServer(port=0, log_path=folder / "lab.jsonl", token=TOKEN)
    await lab.start()
    try:
        home = folder / "home"
        fill_home(home, lab.url)
        house = House(home, lab)
        yield house
        if hasattr(house, "running"):
            await house.stop()
    finally:
        await lab.stop()
