"""What `soar policy backtest` costs: a changed policy asked again about N journalled decisions; time and memory.

python benchmarks/backtest.py [--decisions N] [--postgres DSN] [--json] [--check]

N decisions under the starter policies, one every 25 seconds over the last 29 days, each with another time, run and
target (so that no two are alike in what the rules read), are put into an SQLite store, or into the database of a DSN,
which must be empty. The changed policies ask people about containment on high alerts, and allow a target one action an
hour.

The command runs as a person runs it, in a process of its own, which starts one more for each processor. `--check` ends
with exit code 1 where it took a minute or longer, or where the flips are not those that the change must give.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from soar.journal.note import Signer
from soar.model.clock import earliest
from soar.model.entry import Entry, EntryType
from soar.policy.bundle import load_bundle
from soar.policy.input import (
    ActionFacts,
    AlertFacts,
    Count,
    Counters,
    PlaybookFacts,
    PolicyInput,
    RunFacts,
    TargetFacts,
    TimeFacts,
)  # fmt: skip
from soar.policy.replay import Bench
from soar.service.assembly import starters
from soar.service.running import HONOURED
from soar.service.storage import store_of
from soar.settings import load_settings
from soar.store.port import Fact

ORIGIN = "bench.example/journal"
SECONDS_MAX = 60.0
BATCH = 500
SPAN = timedelta(days=29)
KINDS = (
    ("siem.search", "read", "none", None),
    ("ioc.lookup", "read", "none", "ip"),
    ("ticket.create", "reversible", "none", None),
    ("host.isolate", "reversible", "contain", "host"),
    ("email.delete", "destructive", "destructive", "user"),
)
SEVERITIES = ("low", "medium", "high", "critical")
MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss // 1024, file=sys.stderr)
sys.exit(code)
"""


def question(number, at):
    """What was asked, as the engine asks it."""
    name, effect, risk, kind = KINDS[number % len(KINDS)]
    system, _, verb = name.partition(".")
    thing = {"ip": f"198.51.{number // 250 % 250}.{number % 250}", "host": f"ws-{number}", "user": f"user{number}"}
    targets = (TargetFacts(type=kind, id=thing[kind]),) if kind else ()
    action = ActionFacts(
        id="steps.act", connector=f"lab_{system}", connector_version="1", verb=verb, capability=name, effect=effect,
        risk=risk, digest="0" * 64, targets=targets, params={"text": "x" * 400, "number": number},
    )  # fmt: skip
    counters = Counters()
    if risk != "none":
        counters = Counters(
            connector={action.connector: Count(hour=number % 7, day=number % 31)}, playbook={"p": Count(hour=1, day=9)},
            target={f"{each.type}:{each.id}": Count(hour=number // 20 % 2, day=1) for each in targets},
        )  # fmt: skip
    alert = AlertFacts(id=f"alert-{number}", source="bench", severity=SEVERITIES[number % 4], rule_id="r")
    playbook = PlaybookFacts(id="p", sha256="0" * 64, author="ada")
    return PolicyInput(
        action=action, alert=alert, playbook=playbook, run=RunFacts(id=f"run-{number}"), time=TimeFacts.of(at),
        counters=counters,
    ).document()  # fmt: skip


def told(number, at, asked, decision):
    """The entry that the engine writes about a decision."""
    return Entry(
        id=earliest("entry", at), type=EntryType.POLICY_DECIDED, at=at, actor="worker:bench", subject="steps.act",
        payload=orjson.dumps({"decision": decision.model_dump(mode="json"), "input": asked}),
        data={"decision": decision.id, "effect": decision.effect.value, "engine": "embedded", "number": number},
    )  # fmt: skip


def change(folder):
    """The changed policies."""
    shutil.copytree(starters("policies"), folder)
    for name, old, new in (("matrix", "  high: allow", "  high: approval"), ("limits", "hour: 5,", "hour: 1,")):
        path = folder / "data" / f"{name}.yaml"
        text = path.read_text()
        assert text.count(old) == 1, (name, old)
        path.write_text(text.replace(old, new))
    return folder


async def filled(config, decisions):
    """Fill the store."""
    store = store_of(load_settings(config))
    await store.open()
    first, step = datetime.now(UTC) - SPAN, SPAN / decisions
    bench = Bench(load_bundle(starters("policies")), honours=HONOURED)
    for start in range(0, decisions, BATCH):
        times = [(number, first + number * step) for number in range(start, min(start + BATCH, decisions))]
        asked = [question(number, at) for number, at in times]
        decided = await asyncio.to_thread(bench.decide, asked)
        facts = [
            Fact(entries=(told(number, at, document, decision),))
            for (number, at), document, decision in zip(times, asked, decided, strict=True)
        ]
        assert not any(await store.commit(facts))
    await asyncio.to_thread(bench.close)
    await store.close()


def measured(config, changed):
    """The command: seconds, those of processors, the most memory of one of its processes in MB, and what it found."""
    words = ["policy", "backtest", str(changed), "--brief", "--json", "--fail-on", "none", "--config", str(config)]
    argv = [sys.executable, "-c", MEASURED, sys.executable, "-m", "soar", *words]
    began = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    assert done.returncode == 0, done.stderr
    cpu, megabytes = done.stderr.split()[-2:]
    return seconds, float(cpu), int(megabytes), json.loads(done.stdout)["summary"]


def faults(seconds, found, decisions):
    """What is not as it must be."""
    if seconds >= SECONDS_MAX:
        yield f"{decisions} decisions took {seconds:.1f} s, not less than {SECONDS_MAX:.0f} s"
    if found["decided"] != decisions or found["undecidable"]:
        yield f"{found['decided']} of {decisions} were decided; {found['undecidable']}"
    kinds = set(found["flips"])
    if kinds != {"allow->ask", "allow->deny", "ask->deny"}:
        yield f"the flips are of kinds {sorted(kinds)}"


def main(arguments):
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--decisions", type=int, default=100_000)
    parser.add_argument("--postgres")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        document = {"journal": {"origin": ORIGIN, "key": "journal.key"}}
        if chosen.postgres:
            (home / "database").write_text(chosen.postgres)
            (home / "database").chmod(0o600)
            document["store"] = {"url": f"secret://file{home / 'database'}"}
        config = home / "soar.yaml"
        config.write_text(json.dumps(document))
        (home / "journal.key").write_text(Signer.generate(ORIGIN).to_text())
        (home / "journal.key").chmod(0o600)
        asyncio.run(filled(config, chosen.decisions))
        seconds, cpu, megabytes, found = measured(config, change(home / "changed"))
    if chosen.json:
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "mb": megabytes, **found}))
    else:
        times = f"{seconds:.1f} s, {cpu:.1f} s of processors"
        print(f"{found['decided']} decisions, {found['distinct']} distinct: {times}, {megabytes} MB")
        print(", ".join(f"{count} {kind}" for kind, count in found["flips"].items()))
    wrong = list(faults(seconds, found, chosen.decisions))
    for fault in wrong:
        print(f"FAULT: {fault}", file=sys.stderr)
    return 1 if chosen.check and wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
