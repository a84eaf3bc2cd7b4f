"""soar's side of `durable.py`: one process of the real service, with runs of three actions that do nothing.

It makes a home with one connector, one playbook and the starter policies, then admits records as it is told on standard
input. Everything between the record and the end of the run is what `soar run` does: normalisation, matching, policy on
every action, intents and outcomes in the journal, signed checkpoints. A run is finished when the worker says so, which
it does once that is durable.
"""

import asyncio
import json
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import structlog

from soar import logs
from soar.demo.home import make_home
from soar.model.alert import Record
from soar.service import Running, assemble
from soar.service.collector import settle
from soar.settings import load_settings

FLUSH_SECONDS = 0.1
BATCH = 500  # what the Kafka source takes at once

CONNECTOR = '''
from soar.connector.base import Call, Connector, Model, Result, action
from soar.model.action import Effect


class Params(Model):
    n: str


class Answer(Result):
    n: str


class Idle(Connector[Model]):
    """Does nothing, without a network."""

    name = "idle"
    version = "1"
    vendor = "bench"
    product = "bench"
    Config = Model

    @classmethod
    def client_options(cls, config: Model) -> dict[str, object]:
        return {"base_url": "http://127.0.0.1:1", "allow_private": True}

    @action(effect=Effect.KEYED)
    async def pass_on(self, params: Params, call: Call) -> Answer:
        """Do nothing."""
        return Answer(n=params.n)

    async def test(self, call: Call) -> str:
        return "ok"
'''

PLAYBOOK = """
playbook: three-steps
description: Each step is given what the one before it found.
owner: bench
on: {match: {source: [generic]}}
steps:
  - {id: first, use: idle.pass_on, with: {n: "${{ alert.title }}"}}
  - {id: second, use: idle.pass_on, with: {n: "${{ steps.first.result.n }}"}}
  - {id: third, use: idle.pass_on, with: {n: "${{ steps.second.result.n }}"}}
"""

CONFIG = """
policy: {path: policies}
connectors_dir: connectors
connectors: {idle: {use: idle}}
"""


def home(folder, *, connector=CONNECTOR, playbooks=(PLAYBOOK,), config=CONFIG):
    """Make a home for the benchmark and return its configuration."""
    made = make_home(folder)
    for file in (folder / "playbooks").iterdir():
        file.unlink()
    for number, text in enumerate(playbooks):
        (folder / "playbooks" / f"{number}.yaml").write_text(text)
    (folder / "connectors").mkdir()
    (folder / "connectors" / "idle.py").write_text(connector)
    made.write_text(config)
    return made


def record(number, topic):
    """A record whose alert meets the playbook's trigger."""
    value = b'{"id": "%d", "title": "t%d", "severity": "low"}' % (number, number)
    return Record(source="bench", topic=topic, offset=number, value=value, received_at=datetime.now(UTC))


class Told:
    """What became of runs, written out ten times a second: a line for each run would be work of its own."""

    def __init__(self):
        self._told = self._fresh()
        self._doubtful = set()

    def _fresh(self):
        return {"submitted": {}, "finished": {}, "cpu": time.process_time()}

    def submitted(self, run_ids, at):
        self._told["submitted"].update(dict.fromkeys(run_ids, at))

    def hear(self, _, __, event):
        """A structlog processor: the worker says `run.finished` once the run's end is durable."""
        if event["event"] == "run.finished" and event["state"] == "succeeded":
            self._told["finished"][event["run"]] = time.monotonic()
        if (
            event["event"] == "worker.lease_lost"
        ):  # also said of a run that had just ended, of whose end nothing is said
            self._doubtful.add(event["run"])
        return event

    async def write(self, store):
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            for run_id in list(self._doubtful):
                if (await store.run(run_id)).final:
                    self._doubtful.discard(run_id)
                    self._told["finished"].setdefault(run_id, time.monotonic())
            told, self._told = self._told, self._fresh()
            print(json.dumps({**told, "cpu": time.process_time()}), flush=True)


async def admit(running, told, numbers, at=None):
    """Admit records as one batch; a run's time begins before that."""
    began = time.monotonic() if at is None else at
    admitted = await running.admit([record(number, "bench") for number in numbers])
    told.submitted([run_id for one in admitted for run_id in one.run_ids], began)


async def work_off(running, told, work):
    """All at once in batches, or each by itself at its time, whatever became of those before it."""
    numbers = range(work["first"], work["first"] + work["count"])
    if not work["rate"]:
        for start in range(0, len(numbers), BATCH):
            await admit(running, told, numbers[start : start + BATCH])
        return
    pick, due = random.Random(work["first"]), time.monotonic()
    async with asyncio.TaskGroup() as arrivals:
        for number in numbers:
            due += pick.expovariate(work["rate"])
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            arrivals.create_task(admit(running, told, [number], due))


async def serve(config):
    """Do what the lines on standard input say, until there are no more."""
    told = Told()
    logs.configure(style="json")
    structlog.configure(processors=[told.hear, *structlog.get_config()["processors"]])
    async with assemble(load_settings(config)) as service:
        if service.library.errors:
            sys.exit(str(service.library.errors))
        running = Running(service)
        await running.start()
        settle()
        writing = asyncio.create_task(told.write(service.store))
        print(json.dumps({"ready": True}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await work_off(running, told, json.loads(line))
        writing.cancel()
        await running.stop()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
