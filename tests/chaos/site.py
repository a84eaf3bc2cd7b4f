"""A site under fire: a home, the lab as a process of its own, alerts that arrive, people who answer."""

import asyncio
import contextlib
import itertools
import json
import random
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from soar.demo.home import make_home
from soar.engine.approvals import ApprovalDesk
from soar.errors import SoarError
from soar.model.approval import ApprovalState
from soar.service import assemble
from soar.settings import load_settings
from soar.store.port import Store

from .fleet import Bend, Child, Fleet, environ_of, free_ports, open_fleet
from .zygote import Bend as BendOf
from .zygote import BentClock

TOKEN = "lab-token-of-a-test"
LEASE_SECONDS = 3.0
RULES = ("light", "light", "light", "full", "asked")
"""Of which rule one alert after the other is."""

LIGHT = """
playbook: chaos-light
description: Keyed and unsafe calls, one after the other.
owner: soc
on: {match: {rule.name: light}}
steps:
  - {id: ticket, use: ticket.create, with: {title: "${{ alert.title }}"}}
  - {id: say, use: notify.send, with: {channel: soc, text: "${{ alert.title }}"}}
  - {id: page, use: page.trigger, with: {summary: "${{ alert.title }}", severity: high}}
"""
FULL = """
playbook: chaos-full
description: All effects at once, a wait, a sub-run, and an undo in time.
owner: soc
on: {match: {rule.name: full}}
steps:
  - {id: ticket, use: ticket.create, with: {title: "${{ alert.title }}"}}
  - parallel:
      - {id: isolate, use: host.isolate, with: {host: "${{ alert.raw.host }}"}, undo: {use: host.release, after: 2s}}
      - {id: say, use: notify.send, with: {channel: soc, text: "${{ alert.title }}"}}
      - {id: block, use: ip.block, with: {ip: "${{ alert.raw.address }}"}}
  - wait: 1s
  - {id: sub, call: chaos-page, with: {title: "${{ alert.title }}"}}
"""
PAGE = """
playbook: chaos-page
description: Called by others.
owner: soc
inputs: {type: object, required: [title], properties: {title: {type: string}}}
steps:
  - {id: page, use: page.trigger, with: {summary: "${{ vars.title }}", severity: high}}
"""
ASKED = """
playbook: chaos-asked
description: What people must agree to.
owner: soc
on: {match: {rule.name: asked}}
steps:
  - {id: isolate, use: host.isolate, with: {host: "${{ alert.raw.host }}"}}
  - {id: say, use: notify.send, with: {channel: soc, text: "${{ alert.title }}"}}
"""
EXPECTED = {
    "light": {"ticket": 1, "say": 1, "page": 1},
    "full": {"ticket": 1, "isolate": 1, "release": 1, "say": 1, "block": 1, "page": 1},
    "asked": {"isolate": 1, "say": 1},
}
"""What a run that succeeded has done, by the rule of its alert; `release` is its undo's."""

POLICY = """
package soar.main

decision := {
    "schema": "soar.decision/v1",
    "effect": effect,
    "reasons": [],
    "warnings": [],
    "obligations": obligations,
    "controls_evaluated": ["test"],
}

asks if {
    input.action.risk == "contain"
    input.playbook.id == "chaos-asked"
}

default effect := "allow"

effect := "require_approval" if asks

default obligations := []

obligations := [{
    "type": "approval",
    "groups": [{"group": "soc-lead", "min": 1}],
    "ttl": "20m",
    "execution_ttl": "10m",
}] if asks
"""


@dataclass
class Site:
    """One home, its lab and its workers."""

    folder: Path
    fleet: Fleet
    lab: Child
    config: Path
    database: str | None
    rng: random.Random
    ports: list[int]
    bends: list[Bend]  # how wrong each worker's machine's clock is
    journey: Bend  # how far all workers' shared clock is ahead
    tag: str
    level: str = "error"
    lab_url: str = ""
    role: str = "worker"  # of the zygote's, what a worker is
    workers: dict[int, Child] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    refused: int = 0
    closing: list[Callable[[], None]] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)  # whose alert named which address
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def lab_log(self) -> Path:
        return self.folder / "lab.jsonl"

    async def start(self, slot: int) -> Child:
        """Start the worker of a slot."""
        self.workers[slot] = await self.fleet.start(
            self.role, f"worker-{slot}", config=str(self.config), clock=str(self.bends[slot].path),
            journey=str(self.journey.path), level=self.level,
            environ=environ_of(self.database, self.ports[slot]),
        )  # fmt: skip
        return self.workers[slot]

    def bend(self, seconds: float) -> None:
        """Set every worker's clock so far ahead."""
        for bend in [self.journey] if self.database else self.bends:
            bend.set(seconds)

    async def up(self, slot: int, seconds: float = 60) -> None:
        """Until the door of a slot answers."""
        async with asyncio.timeout(seconds), aiohttp.ClientSession() as http:
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    async with http.get(f"http://127.0.0.1:{self.ports[slot]}/health"):
                        return
                await asyncio.sleep(0.05)

    def alerts(self, count: int, rules: Sequence[str] = RULES) -> list[Any]:
        """New alerts, no two alike."""
        found = []
        for number in itertools.islice(self.numbers, count):
            rule = rules[number % len(rules)]
            address = f"198.{18 + number // 65_536}.{number // 256 % 256}.{number % 256}"
            name = f"{self.tag}-{rule}-{number}"
            self.owners[address] = name
            found.append(
                {"id": name, "rule": rule, "title": name, "host": name, "address": address, "severity": "high"}
            )
        return found

    async def deliver(self, alerts: Sequence[dict[str, Any]], *, seconds: float = 120) -> None:
        """Send them to any door until one of them says that they are durable."""
        token = (self.config.parent / "keys" / "ingest-token").read_text().strip()
        headers = {
            "Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson",
            "Idempotency-Key": alerts[0]["id"],
        }  # fmt: skip
        body = "\n".join(json.dumps(alert) for alert in alerts).encode()
        limit = aiohttp.ClientTimeout(total=15)
        async with asyncio.timeout(seconds), aiohttp.ClientSession(timeout=limit, headers=headers) as http:
            for port in itertools.cycle(self.rng.sample(self.ports, len(self.ports))):
                url = f"http://127.0.0.1:{port}/ingest/chaos?mapping=generic"
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                    async with http.post(url, data=body) as answer:
                        if answer.status == 202:
                            self.acknowledged |= {alert["id"] for alert in alerts}
                            return
                        assert answer.status == 503, await answer.text()
                        self.refused += 1
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def open_site(
    folder: Path,
    *,
    seed: int,
    database: str | None = None,
    workers: int = 1,
    home: Path | None = None,
    lease_seconds: float = LEASE_SECONDS,
) -> AsyncIterator[Site]:
    """A site whose workers are not started; `home` elsewhere than in the folder."""
    (lab_port, *ports) = free_ports(workers + 1)
    config = _fill(home or folder / "home", lab_port=lab_port, lease_seconds=lease_seconds)
    bends = [Bend(folder / f"clock-{slot}") for slot in range(workers)]
    journey = Bend(folder / "journey")
    async with open_fleet(folder) as fleet:
        lab = await fleet.start("lab", "lab", port=lab_port, log=str(folder / "lab.jsonl"), token=TOKEN)
        site = Site(folder, fleet, lab, config, database, random.Random(seed), ports, bends, journey, f"c{seed}")
        site.lab_url = f"http://127.0.0.1:{lab_port}"
        try:
            yield site
        finally:
            for close in site.closing:
                close()


def _fill(home: Path, *, lab_port: int, lease_seconds: float) -> Path:
    """A home with our playbooks and policy; returns its soar.yaml."""
    url = f"http://127.0.0.1:{lab_port}"
    config = make_home(home, lab_url=url, lab_token=TOKEN, origin="soar.test/chaos")
    with config.open("a") as file:
        file.write(f"\nworker: {{lease_seconds: {lease_seconds}}}\n")
    for kind in ("playbooks", "policies"):
        shutil.rmtree(home / kind)
        (home / kind).mkdir()
    for name, text in (("light", LIGHT), ("full", FULL), ("page", PAGE), ("asked", ASKED)):
        (home / "playbooks" / f"{name}.yaml").write_text(text)
    (home / "policies" / "main.rego").write_text(POLICY)
    return config


async def answer(site: Site, *, every: float = 0.3) -> None:
    """Alice decides on what is asked until cancelled: of ten, two are denied and one is left lying."""
    loaded = load_settings(site.config, environ_of(site.database))
    # She sits at the machine of the only worker, or at one of her own.
    clock = None if site.database else BentClock(BendOf(site.bends[0].path))
    while True:
        with contextlib.suppress(SoarError):
            async with assemble(loaded, clock=clock) as service:
                assert not service.library.errors, service.library.errors
                while True:
                    await _answer_once(service.store, service.desk())
                    await asyncio.sleep(every)
        await asyncio.sleep(every)


def leaves(tag: str) -> bool:
    """Whether nobody ever answers what is asked about this alert."""
    return int(tag.rpartition("-")[2]) // 10 % 10 == 9


async def _answer_once(store: Store, desk: ApprovalDesk) -> None:
    for approval in await store.approvals(state=ApprovalState.PENDING, limit=500):
        tag = approval.binding["params"]["host"]
        if leaves(tag):
            continue
        decision = "deny" if int(tag.rpartition("-")[2]) // 10 % 10 < 2 else "grant"
        with contextlib.suppress(SoarError):  # somebody was first, or the store is away
            await desk.vote(
                approval.id, person="alice", decision=decision, digest=approval.digest, method="chaos", reason="a drill"
            )


async def until(holds: Any, *, seconds: float, every: float = 0.2, what: str) -> None:
    """Until a coroutine function says so; AssertionError with `what` after so long."""
    give_up = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < give_up, f"after {seconds:.0f} s still not: {what}"
        await asyncio.sleep(every)
