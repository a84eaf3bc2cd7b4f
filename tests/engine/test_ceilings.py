"""Limits on how much is done, kept by three workers on one store; the lab's own log is the judge."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from soar.errors import RecountError, StoreError
from soar.model.run import RunState
from soar.store.port import Fact, InsertAttempt, Store

from .crew import Crew, until
from .house import ALLOW, House

CUT = """
playbook: it
description: A test's.
owner: soc
on: {match: {rule.name: it}}
steps:
  - {id: cut, use: host.isolate, with: {host: "${{ alert.title }}"}}
"""
ALL_RUNS = 200


def limited(condition: str) -> str:
    """Rego that denies what a condition on the counters finds too much."""
    rule = f'default effect := "allow"\n\neffect := "deny" if {condition}\n'
    return ALLOW.replace('"effect": "allow"', '"effect": effect') + rule


async def run_all(crew: Crew, *titles: str) -> None:
    (crew.home / "playbooks" / "it.yaml").write_text(CUT)
    await crew.start()
    await asyncio.gather(*(crew.admit(title) for title in titles))

    async def over() -> bool:
        runs = (await crew.store.counts()).runs
        return runs.get(RunState.SUCCEEDED, 0) + runs.get(RunState.DENIED, 0) == len(titles)

    await until(over)


@pytest.mark.parametrize(
    ("condition", "targets"),
    [
        ("input.counters.connector.lab_edr.hour >= 10", ALL_RUNS),
        ("input.counters.playbook.it.day >= 10", ALL_RUNS),
        ('input.counters.target["host:h0"].hour >= 10', 1),
    ],
)
async def test_two_hundred_runs_on_three_workers_do_exactly_as_much_as_is_allowed(
    crew: Crew, condition: str, targets: int
) -> None:
    (crew.home / "policies" / "main.rego").write_text(limited(condition))
    await run_all(crew, *(f"h{number % targets}" for number in range(ALL_RUNS)))
    assert sum(line["applied"] for line in crew.isolations()) == (10 if targets > 1 else 1)
    assert len(crew.isolations()) == 10
    assert (await crew.store.counts()).runs == {"succeeded": 10, "denied": ALL_RUNS - 10}


async def test_no_more_than_its_part_of_the_fleet_is_affected(crew: Crew) -> None:
    """Of 80 hosts 10 percent are 8, whoever asks; a host that is affected already makes it no more."""
    policies = crew.home / "policies"
    (policies / "main.rego").write_text(limited("input.counters.fleet_percent.host >= 10"))
    (policies / "data").mkdir()
    (policies / "data" / "assets.yaml").write_text("fleet: {host: 80}\n")
    await run_all(crew, *(f"h{number % 50}" for number in range(100)))
    cut = {line["path"] for line in crew.isolations()}
    assert len(cut) == 8
    done = (await crew.store.counts()).runs["succeeded"]
    assert done == len(crew.isolations()) >= 8


async def test_without_a_limit_everything_is_done_however_often_it_is_overtaken(crew: Crew) -> None:
    await run_all(crew, *(f"h{number}" for number in range(60)))
    assert len(crew.isolations()) == 60


class Crowded:
    """A store where others come between the decision and its intent, so many times."""

    def __init__(self, store: Store, times: int) -> None:
        self._store = store
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, facts: Sequence[Fact]) -> list[StoreError | None]:
        if self.times and any(isinstance(write, InsertAttempt) for fact in facts for write in fact.writes):
            self.times -= 1
            return [RecountError("others came between") for _ in facts]
        return await self._store.commit(facts)


async def test_who_is_overtaken_again_and_again_lets_others_go_first_for_a_while(house: House) -> None:
    house.wrap = lambda store: Crowded(store, 25)
    house.playbook("steps:\n  - {id: cut, use: host.isolate, with: {host: h1}}\n")
    await house.start()
    run = await house.go()
    assert run.state is RunState.WAITING
    assert (await house.step(run, "cut")).data == {"phase": "recount", "why": "others came between"}
    await house.pass_time(2)
    assert (await house.run(run.id)).state is RunState.SUCCEEDED
    assert len(house.effects()) == 1
    assert len(await house.told(run, "policy.decided")) == 1
