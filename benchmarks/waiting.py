"""Runs that wait, by the hundred thousand: what they cost a service, and how soon any of them wakes.

    python benchmarks/waiting.py [--postgres DSN] [--runs N] [--real N] [--picks N] [--check] [--json]

A real service runs in a process of its own; this process is everybody else: it admits alerts, gives answers and looks
on. A third of the runs wait for a time, a third for a person's answer, a third for a later alert; each is to do one
more action when it wakes. The first `--real` runs get there as in life, through admission and the service; the others
are copies of them under names of their own, written through the store as facts with all that belongs to them: record,
alert, run, step, question and journal entries.

With all of them waiting, `--picks` of each kind are woken one after the other, wherever their names stand among the
others. A wake-up lasts from the moment that the time has come, the answer is handed in or the alert is handed over,
until the run has ended, which is one policy decision, one action and two commits after the wait. `--check` makes the
exit code 1 where the service needs 300 MB or more, or a p99 is a second or more.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from durable import Database, Workers
from durable_soar import CONFIG, home

from soar.engine.awaited import key_of
from soar.model.alert import Alert, Outcome, Record
from soar.model.approval import Approval
from soar.model.base import to_rfc3339
from soar.model.entry import EntryType
from soar.model.playbook import Trigger
from soar.model.run import Run, StepRecord
from soar.service import assemble
from soar.settings import load_settings
from soar.store.port import AlertMatch, Fact, InsertAlert, InsertApproval, InsertRecord, InsertRun, PutStep

HERE = Path(__file__).resolve().parent
MEGABYTES, SECONDS = 300, 1.0
BATCH = 500
LATER = timedelta(hours=12)
PAUSE_SECONDS = 0.1  # between two picks
PEOPLE = "people: [{name: alice, groups: [soc-lead]}]\n"

WAITS = {
    "time": "{id: waits, wait: {for: 12h}}",
    "answer": "{id: waits, ask: Go on?, groups: [{group: soc-lead}], expires: 12h}",
    "alert": '{id: waits, wait: {for_alert: {match: {title: ["wake ${{ alert.title }}"]}}}, timeout: 12h}',
}
PLAYBOOK = """
playbook: waits-for-{kind}
description: Waits, then acts.
owner: bench
on: {{match: {{title: {{prefix: ["{kind} "]}}}}}}
steps:
  - {wait}
  - {{id: after, use: idle.pass_on, with: {{n: "${{{{ alert.title }}}}"}}}}
"""


@dataclass(frozen=True)
class Waiting:
    """One waiting run with all that belongs to it, from which others are made."""

    run: Run
    step: StepRecord
    alert: Alert
    approval: Approval | None


def record(number, title):
    """A record of an alert with this title."""
    value = json.dumps({"id": f"uid-{number}", "title": title, "severity": "low"}).encode()
    return Record(source="bench", topic="waiting", offset=number, value=value, received_at=datetime.now(UTC))


class Bench:
    """One store's turn."""

    def __init__(self, service, side, pid, told):
        self.service = service
        self.store = service.store
        self.side = side
        self.pid = pid
        self.told = told
        self.intake = service.intake()
        self.scribe = service.scribe
        self.kinds = list(WAITS)
        self.offset = 0

    async def admit(self, titles):
        """Admit one alert for each title; returns what became of them."""
        records = [record(self.offset + number, title) for number, title in enumerate(titles)]
        self.offset += len(records)
        return await self.intake.admit(records)

    async def real(self):
        """Let so many runs come to their waits as in life; returns one of each kind, and the ids of all by kind."""
        ids = {kind: [] for kind in self.kinds}
        for start in range(0, self.told.real, BATCH):
            titles = [f"{self.kinds[n % 3]} {n}" for n in range(start, min(start + BATCH, self.told.real))]
            for title, admitted in zip(titles, await self.admit(titles), strict=True):
                ids[title.split()[0]] += admitted.run_ids
        while (await self.store.counts()).runs.get("waiting", 0) < self.told.real:
            await self.side.told()
        return {kind: await self._waiting(ids[kind][0]) for kind in self.kinds}, ids

    async def _waiting(self, run_id):
        run = await self.store.run(run_id)
        approvals = await self.store.approvals(run_id=run_id)
        step = (await self.store.steps(run_id))["waits"]
        return Waiting(run, step, await self.store.alert(run.alert_id), approvals[0] if approvals else None)

    def copy(self, model, run_id, *, due=None):
        """A fact with another run that waits like `model`, under names of its own."""
        ids, kind = self.scribe.ids, model.alert.title.split()[0]
        self.offset += 1
        title = f"{kind} {run_id}"
        alert = model.alert.model_copy(update={"id": ids.new("alert"), "uid": run_id, "title": title})
        changes = {"id": run_id, "alert_id": alert.id, "wake_at": due or model.run.wake_at}
        run = model.run.model_copy(update=changes)
        data, writes, entries = dict(model.step.data), [], []
        if due is not None:
            data["until"] = to_rfc3339(due)
        if kind == "alert":
            wanted = Trigger.model_validate({"match": {"title": {"any_of": [f"wake {title}"]}}})
            data |= {"trigger": wanted.model_dump(mode="json", exclude_none=True), "awaits": key_of(wanted, Trigger())}
        if model.approval is not None:
            binding = {**model.approval.binding, "run": run_id}
            names = {"id": ids.new("approval"), "run_id": run_id, "binding": binding}
            approval = model.approval.model_copy(update={**names, "digest": Approval.digest_of(binding)})
            data["approval_id"] = approval.id
            writes.append(InsertApproval(approval=approval))
            entries.append(self._entry(EntryType.APPROVAL_REQUESTED, approval.id, run_id, {"binding": binding}))
        step = model.step.model_copy(update={"run_id": run_id, "data": data})
        admitted = self._entry(EntryType.ALERT_ADMITTED, alert.id, None, {"alert": alert.model_dump(mode="json")})
        created = self._entry(EntryType.RUN_CREATED, run_id, run_id, None)
        waits = self._entry(EntryType.STEP_WAITING, "waits", run_id, {"data": data})
        coordinates = f"bench/copied/0/{self.offset}"
        match = AlertMatch(playbook_id=run.playbook_id, outcome=Outcome.MATCHED, run_id=run_id)
        arrived = InsertAlert(
            alert=alert,
            outcome=Outcome.MATCHED,
            matches=(match,),
            coordinates=coordinates,
            content=alert.id,
            entry_id=admitted.id,
        )
        told = InsertRecord(coordinates=coordinates, at=run.created_at)
        all_writes = (told, arrived, InsertRun(run=run), PutStep(record=step), *writes)
        return Fact(writes=all_writes, entries=(admitted, created, *entries, waits))

    def _entry(self, kind, subject, run_id, payload):
        return self.scribe.entry(kind, subject, run_id=run_id, payload=payload)

    async def write(self, facts):
        """Commit facts; a refusal ends the benchmark."""
        for refusal in await self.store.commit(facts):
            if refusal is not None:
                raise refusal

    async def fill(self, models):
        """Write copies of the models; returns the ids of those to be woken. Those that wait for a time come last."""
        pick = random.Random(1)
        count = self.told.runs - self.told.real
        names = [(self.scribe.ids.new("run"), self.kinds[number % 3]) for number in range(count)]
        chosen = {kind: pick.sample([name for name in names if name[1] == kind], self.told.picks) for kind in WAITS}
        held = set(chosen["time"])
        rest = [name for name in names if name not in held]
        for start in range(0, len(rest), BATCH):
            await self.write([self.copy(models[kind], run_id) for run_id, kind in rest[start : start + BATCH]])
            await asyncio.sleep(0)
        return {kind: [run_id for run_id, _ in some] for kind, some in chosen.items()}

    async def wake_in_time(self, models, run_ids):
        """Runs whose time comes one after the other; returns when each was due."""
        begin = datetime.now(UTC) + timedelta(seconds=2)
        due = {run_id: begin + timedelta(seconds=PAUSE_SECONDS) * n for n, run_id in enumerate(run_ids)}
        await self.write([self.copy(models["time"], run_id, due=moment) for run_id, moment in due.items()])
        ahead = time.monotonic() - datetime.now(UTC).timestamp()
        return {run_id: moment.timestamp() + ahead for run_id, moment in due.items()}

    async def wake_by_answers(self, run_ids):
        """Answer one question after the other; returns when each was begun."""
        desk, begun = self.service.desk(), {}
        for run_id in run_ids:
            approval = (await self.store.approvals(run_id=run_id))[0]
            begun[run_id] = time.monotonic()
            await desk.vote(
                approval.id, person="alice", decision="grant", digest=approval.digest, method="bench", answer="yes"
            )
            await asyncio.sleep(PAUSE_SECONDS)
        return begun

    async def wake_by_alerts(self, run_ids):
        """Admit one awaited alert after the other; returns when each was handed over."""
        begun = {}
        for run_id in run_ids:
            begun[run_id] = time.monotonic()
            await self.admit([f"wake alert {run_id}"])
            await asyncio.sleep(PAUSE_SECONDS)
        return begun

    async def finished(self, run_ids):
        """When each of these runs ended, as the service said."""
        found, wanted = {}, set(run_ids)
        while wanted - found.keys():
            found |= (await self.side.told())["finished"]
        return found

    async def unrelated(self):
        """Milliseconds to admit a batch of alerts that nobody waits for."""
        started = time.perf_counter()
        await self.admit([f"nothing {self.offset + n}" for n in range(BATCH)])
        return (time.perf_counter() - started) * 1e3

    def memory(self, name="VmRSS"):
        """Megabytes that the service holds now; `VmHWM`: at most so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition(f"{name}:")[2].split()[0]) / 1024

    async def measure(self):
        """All figures of this store."""
        figures = {"mb_before": self.memory(), "admit_before_ms": await self.unrelated()}
        began = time.perf_counter()
        models, _ = await self.real()
        figures["real_s"], began = time.perf_counter() - began, time.perf_counter()
        chosen = await self.fill(models)
        figures["copied_s"] = time.perf_counter() - began
        times = {}
        begun = await self.wake_in_time(models, chosen["time"])
        figures["waiting"] = (await self.store.counts()).runs["waiting"]
        figures["mb_waiting"] = self.memory()
        times["time"] = begun, await self.finished(begun)
        figures["admit_after_ms"] = await self.unrelated()
        for kind, wake in (("answer", self.wake_by_answers), ("alert", self.wake_by_alerts)):
            begun, ended = await asyncio.gather(wake(chosen[kind]), self.finished(chosen[kind]))
            times[kind] = begun, ended
        figures["mb_most"] = self.memory("VmHWM")
        for kind, (begun, ended) in times.items():
            taken = sorted((ended[run_id] - begun[run_id]) * 1e3 for run_id in begun)
            figures[f"{kind}_ms"] = [taken[len(taken) // 2], taken[int(len(taken) * 0.99)], taken[-1]]
        return figures


async def turn(told, folder, database=None):
    """One store, from nothing on."""
    folder.mkdir()
    store = ""
    if database is not None:
        secret = folder / "database-url"
        secret.touch(mode=0o600)
        secret.write_text(database.dsn)
        store = f'store: {{url: "secret://file{secret}"}}\n'
    playbooks = [PLAYBOOK.format(kind=kind, wait=wait) for kind, wait in WAITS.items()]
    config = home(folder, playbooks=playbooks, config=CONFIG + PEOPLE + store)
    command = [sys.executable, str(HERE / "durable_soar.py"), str(config)]
    async with (
        Workers.started(command, 1, folder / "soar.log") as side,
        assemble(load_settings(config, {})) as service,
    ):
        return await Bench(service, side, side.pids()[0], told).measure()


def show(name, found):
    """Print one store's figures."""
    print(f"{name}: {found['waiting']:,} runs wait; copies took {found['copied_s']:.0f} s")
    print(f"  memory   {found['mb_before']:4.0f} MB before, {found['mb_waiting']:4.0f} with all waiting,", end=" ")
    print(f"{found['mb_most']:4.0f} at most")
    print(f"  admit    {BATCH} other alerts {found['admit_before_ms']:7.0f} ms before,", end=" ")
    print(f"{found['admit_after_ms']:7.0f} with all waiting")
    for kind in WAITS:
        middle, late, worst = found[f"{kind}_ms"]
        print(f"  {kind:8} wakes in {middle:7.0f} ms, p99 {late:7.0f}, at worst {worst:7.0f}")


def fails(found):
    """What of it is not good enough."""
    late = [kind for kind in WAITS if found[f"{kind}_ms"][1] >= SECONDS * 1e3]
    return [*late, *(["memory"] if found["mb_most"] >= MEGABYTES else [])]


async def main():
    """Print a table for each store; exit code 1 where `--check` finds too little."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgres", metavar="DSN")
    parser.add_argument("--no-sqlite", action="store_true")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--real", type=int, default=1_200, help="so many of them through admission and service")
    parser.add_argument("--picks", type=int, default=200, help="so many of each kind are woken")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        if not told.no_sqlite:
            found["sqlite"] = await turn(told, Path(folder) / "sqlite")
        if told.postgres:
            async with Database(told.postgres) as database:
                found["postgres"] = await turn(told, Path(folder) / "postgres", database)
    for name, figures in found.items():
        show(name, figures)
    if told.json:
        print(json.dumps(found))
    wrong = {name: fails(figures) for name, figures in found.items() if fails(figures)}
    if told.check and wrong:
        print(f"not good enough: {wrong}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
