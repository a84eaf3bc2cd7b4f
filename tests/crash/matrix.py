"""Runs the scenarios in forked processes that kill themselves, and holds each against what it comes to without dying.

A program of its own, `python -m tests.crash.matrix`: fork is only safe where no thread and no event loop exists yet.
It has imported everything before, so that a life costs a tenth of a second. The labs are processes of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import logging
import os
import resource
import secrets
import shutil
import signal
import socket
import sys
import time
import traceback
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import structlog
import yaml

from soar.journal.cosignature import Cosigner
from soar.lab import LabServer
from soar.model.clock import SystemClock
from soar.service import read_key
from soar.settings import load_settings
from soar.witness.app import build_app
from soar.witness.memory import Memory
from soar.witness.server import run as run_witness
from tests.engine.house import TOKEN, fill_home

from .life import Case, Parts, Scenario, live
from .oracle import Found, differences
from .points import Place, write_points
from .scenarios import LIMITED, PEOPLE, POLICY, SCENARIOS, whole
from .watch import Death, Slate, Told, Watch, Way

LIFE_SECONDS = 90  # a life that takes longer hangs
CHUNK = 24  # deaths to try in one piece of work
TOO_MANY_LIVES = 40
_FRUITLESS = 8  # so many cases in which nothing died, and it is given up


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to do: `every` occurrence of every point, one death to a case, or else the first and the last of each."""

    folder: str
    server: str | None  # DSN of a PostgreSQL; None: SQLite
    schemas: str  # how the schemas of this order begin
    every: bool
    lanes: int
    deaths_per_case: int


@dataclass(kw_only=True)
class Result:
    """What came of it."""

    passed: list[str] = field(default_factory=list)  # points that some scenario passes
    died: list[tuple[str, bool]] = field(default_factory=list)  # points, and whether after
    occurrences: int = 0
    cases: int = 0
    kills: int = 0
    missed: int = 0  # occurrences that did not come again
    lost: int = 0
    duplicates: int = 0
    ambiguous: int = 0
    actions: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Lane:
    """A lab with its log, and a home whose connectors go there."""

    folder: Path
    url: str
    lab: int
    parts: dict[str, Parts] = field(default_factory=dict)  # by scenario

    @property
    def log(self) -> Path:
        return self.folder / "lab.jsonl"

    @property
    def config(self) -> Path:
        return self.folder / "home" / "soar.yaml"


def forked(work: Callable[[], object]) -> int:
    """Run `work` in a process of its own, which ends with it."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as its parent does
        traceback.print_exc()
    finally:
        os._exit(code)


def open_lane(folder: Path) -> Lane:
    """Start a lab and make its home."""
    folder.mkdir()
    read, write = os.pipe()
    parent = os.getpid()

    async def serve() -> None:
        lab = LabServer(port=0, log_path=folder / "lab.jsonl", token=TOKEN)
        await lab.start()
        os.write(write, lab.url.encode())
        os.close(write)
        while os.getppid() == parent:  # noqa: ASYNC110 - no event tells; it does not outlive whoever would end it
            await asyncio.sleep(1)

    lab = forked(lambda: asyncio.run(serve()))
    os.close(write)
    with os.fdopen(read) as pipe:
        url = pipe.read()
    home = folder / "home"
    fill_home(home, url)
    (home / "policies" / "main.rego").write_text(POLICY)
    (home / "policies" / "people.rego").write_text(PEOPLE)
    lane = Lane(folder, url, lab)
    document = yaml.safe_load(lane.config.read_text())
    for name, more in LIMITED.items():
        document["connectors"][name] = {**document["connectors"][more["use"]], **more}
    lane.config.write_text(json.dumps(document))
    parts = Parts.of(lane.config)
    for scenario in SCENARIOS:
        playbooks = folder / scenario.name
        playbooks.mkdir()
        write_playbooks(scenario, playbooks)
        lane.parts[scenario.name] = parts.playing(scenario, playbooks)
    return lane


def write_playbooks(scenario: Scenario, folder: Path) -> None:
    """Put a scenario's playbooks into a folder."""
    for name, text in scenario.playbooks.items():
        (folder / f"{name}.yaml").write_text(whole(name, text))


def own_home(scenario: Scenario, config: Path, folder: Path) -> Path:
    """A home like that of the lane, with a scenario's playbooks and files, and what its configuration says besides."""
    shutil.copytree(config.parent, folder)
    write_playbooks(scenario, folder / "playbooks")
    for path, text in scenario.files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    own = folder / config.name
    own.write_text(json.dumps({**json.loads(own.read_text()), **(scenario.settings or {})}))
    return own


@dataclass
class Ran:
    """What a case came to, and of what its processes died."""

    found: Found = field(init=False)
    told: Told = field(init=False)
    kills: int = 0
    died: list[Death] = field(default_factory=list)
    points: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def words(self) -> str:
        """Of what its processes died."""
        deaths = [f"{'after' if each.after else 'before'} number {each.number} of {each.way[-1]}" for each in self.died]
        return f"died {', then '.join(deaths)}"


class Piece:
    """Lives and cases of one scenario on one lane, in a process that itself only forks and waits."""

    def __init__(self, order: Order, lane: Lane, scenario: Scenario, points: Mapping[Place, str]) -> None:
        self._order, self._lane, self._scenario, self._points = order, lane, scenario, points
        self._number = _taken(lane)

    @contextlib.contextmanager
    def case(self) -> Iterator[Case]:
        """The next case: an empty store, the lab's faults as the scenario wants them."""
        self._number += 1
        self._switch("DELETE", "")
        for where, fault in self._scenario.faults.items():
            self._switch("PUT", f"/{where}", fault)
        name = f"{self._order.schemas}_{self._lane.folder.name}_{self._number}"
        store = self._lane.folder / f"{name}.db"
        environ = {"SOAR_STORE__PATH": str(store)}
        if self._order.server is not None:
            dsn = f"{self._order.server}?search_path={name}"
            environ = {"SOAR_STORE__URL": "secret://env/DATABASE", "DATABASE": dsn}
        with contextlib.ExitStack() as stack:
            config = self._lane.config
            if self._scenario.witnessed:
                config = stack.enter_context(witnessed(config, self._lane.folder / name))
            if self._scenario.settings is not None:
                config = own_home(self._scenario, config, self._lane.folder / name)
            yield Case(
                scenario=self._scenario,
                parts=self._lane.parts[self._scenario.name],
                config=config,
                environ=environ,
                schema=name if self._order.server is not None else None,
                number=self._number,
                lab_log=self._lane.log,
                lab_from=self._lane.log.stat().st_size,
            )
            for file in store.parent.glob(f"{name}.db*"):
                file.unlink()

    def one_life(self, case: Case, slate: Slate, deaths: Sequence[Death]) -> Told:
        """One process, to its death or its end; raises AssertionError for any other ending."""

        def work() -> None:
            signal.alarm(LIFE_SECONDS)
            live(case, Watch(self._points, slate, case.parts.clock, deaths=deaths, first=case.scenario.dies_first))

        before = slate.read()
        before.died_of, before.died_at = [], []
        slate.write(before)
        _, status = os.waitpid(forked(work), 0)
        told = slate.read()
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            assert told.died_of or told.died_first > before.died_first, "somebody else killed it"
        else:
            assert status == 0, told.error or f"ended with status {status}"
        return told

    def run(self, deaths: Sequence[Death] = (), most: int = 0) -> Ran:
        """One case, in which at most so many processes die of these deaths."""
        slate, left, ran = Slate(), list(deaths), Ran()
        with self.case() as case:
            for _ in range(TOO_MANY_LIVES):
                armed = left if ran.kills < most else []
                told = self.one_life(case, slate, armed)
                if told.result is not None:
                    ran.found, ran.told = told.result, told
                    return ran
                if told.died_of:
                    ran.kills += 1
                    ran.died += [armed[number] for number in told.died_of]
                    ran.points += told.died_at
                    left = [death for death in left if death not in ran.died]
        raise AssertionError("it dies for ever")

    def _switch(self, method: str, where: str, body: Mapping[str, Any] | None = None) -> None:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._lane.url}/_faults{where}", data=data, method=method)
        urllib.request.urlopen(request, timeout=10).close()


@contextlib.contextmanager
def witnessed(config: Path, folder: Path) -> Iterator[Path]:
    """A witness that knows this home's log, and a configuration that names it."""
    cosigner = Cosigner("w.example", secrets.token_bytes(32), clock=SystemClock())
    verifier = read_key(load_settings(config, {})).verifier
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def work() -> None:
        memory = Memory(folder, verifier=cosigner.verifier)
        app = build_app(memory=memory, cosigner=cosigner, logs={verifier.name: [verifier]})
        run_witness(app, host="127.0.0.1", port=port)

    process = forked(work)
    document = yaml.safe_load(config.read_text())
    journal = {**document["journal"], "witnesses": [{"url": f"http://127.0.0.1:{port}", "key": str(cosigner.verifier)}]}
    other = config.with_name(f"{folder.name}.yaml")
    other.write_text(json.dumps({**document, "journal": journal}))
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield other
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


Work = tuple[Scenario, Sequence[Death]]


def in_lanes(
    order: Order,
    lanes: Sequence[Lane],
    points: Mapping[Place, str],
    works: Sequence[Work],
    do: Callable[[Piece, Work], Any],
) -> list[Any]:
    """Do each piece of work in a process of its own, one at a time on each lane; what each returned, in order."""
    free, busy = list(lanes), dict[int, Lane]()
    files = [Path(order.folder) / f"work-{number}.json" for number in range(len(works))]

    def wait() -> None:
        child, _ = os.waitpid(-1, 0)
        if child in busy:
            free.append(busy.pop(child))

    for work, file in zip(works, files, strict=True):
        while not free:
            wait()
        lane = free.pop(0)
        piece = Piece(order, lane, work[0], points)

        def in_child(piece: Piece = piece, work: Work = work, file: Path = file) -> None:
            try:
                done = {"done": do(piece, work)}
            except AssertionError as failure:
                done = {"error": f"{work[0].name}: {failure}"}
            except Exception:  # noqa: BLE001 - told by the parent, who cannot see it
                done = {"error": f"{work[0].name}: {traceback.format_exc()}"}
            file.write_text(json.dumps(done))

        busy[forked(in_child)] = lane
    while busy:
        wait()
    results = [json.loads(file.read_text()) for file in files]
    for file in files:
        file.unlink()
    return results


_NUMBERS_A_PIECE = 100


def _taken(lane: Lane) -> int:
    """Where the numbers of a piece's cases begin: no two on one lab are alike."""
    counter = lane.folder / "numbers"
    number = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(number + _NUMBERS_A_PIECE))
    return number


def choose(ways: Mapping[str, Sequence[Way]], *, every: bool) -> dict[str, list[Death]]:
    """The deaths to die in each scenario, given the ways of its changes in their order."""
    keys = {name: [{way} if every else {(point,) for point in way} for way in order] for name, order in ways.items()}
    home = {key: name for name, order in reversed(keys.items()) for each in order for key in each}
    last = {key: name for name, order in keys.items() for each in order for key in each}
    deaths: dict[str, list[Death]] = {}
    for name, order in keys.items():
        total = Counter(key for each in order for key in each)
        seen = Counter[Way]()
        for key in (key for each in order for key in sorted(each)):
            seen[key] += 1
            first = seen[key] == 1 and home[key] == name
            if every or first or (seen[key] == total[key] and last[key] == name):
                deaths.setdefault(name, []).extend(Death(key, seen[key], after) for after in (False, True))
    return deaths


def try_deaths(piece: Piece, deaths: Sequence[Death], without: Found, most: int) -> dict[str, Any]:
    """Die all of these deaths, over as many cases as it takes."""
    left, came, errors, fruitless, missed = list(deaths), list[Ran](), list[str](), 0, 0
    while left and fruitless < _FRUITLESS:
        ran = piece.run(left, most)
        errors += [f"{ran.words}: {wrong}" for wrong in (*ran.found["wrong"], *differences(ran.found, without))]
        came.append(ran)
        left = [death for death in left if death not in ran.died]
        if not ran.kills:  # the machine did it in fewer steps this time: take the last of them
            fruitless += 1
            seen = dict(ran.told.passed)
            missed += sum(1 for each in left if each.way not in seen)
            left = list(dict.fromkeys(replace(d, number=min(d.number, seen[d.way])) for d in left if d.way in seen))
    return {
        "cases": len(came),
        "kills": sum(ran.kills for ran in came),
        "died": sorted({point for ran in came for point in ran.points}),
        "missed": missed + len(left),
        "errors": errors,
        "lost": sum(ran.found["lost"] for ran in came),
        "duplicates": sum(ran.found["duplicates"] for ran in came),
        "ambiguous": sum(ran.found["ambiguous"] for ran in came),
        "actions": sum((Counter(ran.found["actions"]) for ran in came), Counter()),
    }


def matrix(order: Order) -> Result:
    """The whole of an order."""
    begun, result = time.monotonic(), Result()
    lanes = [open_lane(Path(order.folder) / f"lane{number}") for number in range(order.lanes)]
    try:
        points = write_points()
        gc.freeze()  # what all lives share is not looked at again in each
        alive = [(scenario, ()) for scenario in SCENARIOS]
        firsts = in_lanes(order, lanes, points, alive, lambda piece, _: _alive(piece))
        result.errors += [each["error"] for each in firsts if "error" in each]
        baseline = {s.name: each["done"] for (s, _), each in zip(alive, firsts, strict=True) if "done" in each}
        result.errors += [wrong for done in baseline.values() for wrong in done["found"]["wrong"]]
        ways = {name: [tuple(way) for way in done["order"]] for name, done in baseline.items()}
        result.passed = sorted({point for order_ in ways.values() for way in order_ for point in way})
        deaths = choose(ways, every=order.every)
        result.occurrences = sum(len(each) for each in ways.values())
        works = [
            (scenario, chunk)
            for scenario in SCENARIOS
            for start in range(0, len(deaths.get(scenario.name, ())), CHUNK)
            if (chunk := deaths[scenario.name][start : start + CHUNK])
        ]
        tried = in_lanes(
            order,
            lanes,
            points,
            works,
            lambda piece, work: try_deaths(piece, work[1], baseline[work[0].name]["found"], order.deaths_per_case),
        )
        _sum_up(result, tried)
    finally:
        for lane in lanes:
            os.kill(lane.lab, signal.SIGKILL)
            os.waitpid(lane.lab, 0)
    result.seconds = round(time.monotonic() - begun, 1)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    result.cpu_seconds = round(used.ru_utime + used.ru_stime, 1)
    return result


def _alive(piece: Piece) -> dict[str, Any]:
    ran = piece.run()
    return {"found": ran.found, "order": ran.told.order}


def _sum_up(result: Result, tried: Sequence[Mapping[str, Any]]) -> None:
    actions: Counter[str] = Counter()
    died: set[tuple[str, bool]] = set()
    for each in tried:
        if "error" in each:
            result.errors.append(each["error"])
            continue
        done = each["done"]
        result.errors += done["errors"]
        for name in ("cases", "kills", "missed", "lost", "duplicates", "ambiguous"):
            setattr(result, name, getattr(result, name) + done[name])
        actions.update(done["actions"])
        died |= {(point, after) for point, after in done["died"]}
    result.actions = dict(actions)
    result.died = sorted(died)


def main() -> NoReturn:
    """Read an order as JSON from the first argument, print the result as JSON."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    result = matrix(Order(**json.loads(sys.argv[1])))
    sys.stdout.write(json.dumps(dataclasses.asdict(result)))
    sys.exit(0)


if __name__ == "__main__":
    main()
