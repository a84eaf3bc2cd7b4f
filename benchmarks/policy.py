"""Decisions per second: OPA asked one by one, OPA asked in batches, the embedded engine, and its memory.

    python benchmarks/policy.py [--opa PROGRAM] [--questions N] [--rounds N] [--check] [--json]

The starter policies decide on N questions that all differ in what the policies read: six kinds of actions, each on a
target of its own. The OPA is spawned as the service does it, on a Unix socket. The candidates take turns, round after
round, each with the same questions, and every answer is compared with the embedded engine's.

    one by one   OPA, the next question asked when the answer is there
    batched      OPA, all questions asked at once, as concurrent runs do: what waits goes along in one request
    embedded     Rego in this process, the next question asked when the answer is there; none was asked before
    memoised     the same questions again, which the embedded engine remembers by what the policies read

A decision's time is that from asking to answer; of what is asked at once, the wait for the others is in it. Decisions
per second are the median of all rounds. `--check` makes the exit code 1 where batched is not 3 times one by one.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import structlog

from soar.policy.bundle import load_bundle
from soar.policy.embedded import EmbeddedEngine
from soar.policy.input import ActionFacts, AlertFacts, PlaybookFacts, PolicyInput, RunFacts, TargetFacts, TimeFacts
from soar.policy.server import OpaEngine
from soar.policy.spawn import SpawnedOpa

POLICIES = Path(__file__).resolve().parents[1] / "policies"
TIMES = 3.0
NOW = TimeFacts.of(datetime(2026, 1, 5, 12, tzinfo=UTC))
ACTIONS = (  # capability, effect, risk, type of target
    ("host.isolate", "reversible", "contain", "host"),
    ("account.disable", "reversible", "contain", "user"),
    ("ip.block", "reversible", "contain", "ip"),
    ("ticket.create", "reversible", "none", "ticket"),
    ("email.delete", "destructive", "destructive", "email"),
    ("ioc.lookup", "read", "none", "observable"),
)
SEVERITIES = ("low", "medium", "high", "critical")


def question(number):
    """The question on one action, whose target no other has."""
    capability, effect, risk, kind = ACTIONS[number % len(ACTIONS)]
    name = f"203.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}" if kind == "ip" else f"{kind}-{number}"
    system, _, verb = capability.partition(".")
    action = ActionFacts(
        id=str(number),
        connector=f"lab_{system}",
        connector_version="1",
        verb=verb,
        capability=capability,
        effect=effect,
        risk=risk,
        digest=f"{number:064x}",
        targets=(TargetFacts(type=kind, id=name),),
    )
    return PolicyInput(
        action=action,
        alert=AlertFacts(id=f"alert-{number}", severity=SEVERITIES[number % len(SEVERITIES)], confidence=80),
        playbook=PlaybookFacts(id="bench", sha256="0" * 64, author="ada"),
        run=RunFacts(id=f"run-{number}", attempt=1 + number % 5),
        time=NOW,
    ).document()


class Candidate:
    """One way to have questions answered, and how long the answers took."""

    def __init__(self, ask):
        self.ask = ask
        self.rates = []
        self.times = []

    async def turn(self, documents):
        """Answer all of them once; returns the answers."""
        began = time.perf_counter()
        answers = await self.ask(self, documents)
        self.rates.append(len(documents) / (time.perf_counter() - began))
        return answers

    async def timed(self, engine, document):
        """One answer."""
        began = time.perf_counter()
        answer = await engine.evaluate(document)
        self.times.append(time.perf_counter() - began)
        return answer

    def figures(self):
        """Decisions a second, and milliseconds."""
        times = sorted(self.times)
        p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
        return {"per_second": statistics.median(self.rates), "p50_ms": p50 * 1e3, "p99_ms": p99 * 1e3}


def one_by_one(engine):
    async def ask(candidate, documents):
        return [await candidate.timed(engine, document) for document in documents]

    return ask


def at_once(engine):
    async def ask(candidate, documents):
        return await asyncio.gather(*(candidate.timed(engine, document) for document in documents))

    return ask


async def measure(told):
    """Figures of each candidate."""
    bundle = load_bundle(POLICIES)
    documents = [question(number) for number in range(told.questions)]
    opa = OpaEngine(SpawnedOpa(Path(told.opa), bundle), revision=bundle.revision, timeout_seconds=60)
    await opa.open()
    memory = EmbeddedEngine(bundle, timeout_seconds=60)
    await memory.evaluate_many(documents)
    candidates = {
        "one by one": Candidate(one_by_one(opa)),
        "batched": Candidate(at_once(opa)),
        "embedded": None,
        "memoised": Candidate(one_by_one(memory)),
    }
    fresh_rates = Candidate(None)
    expected = None
    for _ in range(told.rounds):
        fresh = EmbeddedEngine(bundle, timeout_seconds=60)  # one that remembers nothing
        fresh_rates.ask = one_by_one(fresh)
        candidates["embedded"] = fresh_rates
        for name, candidate in candidates.items():
            answers = await candidate.turn(documents)
            expected = expected or answers
            if list(answers) != list(expected):
                raise SystemExit(f"{name} decides otherwise")
        await fresh.close()
    await memory.close()
    await opa.close()
    return {name: candidate.figures() for name, candidate in candidates.items()}


def main():
    """Print the figures; exit code 1 where `--check` finds too little."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opa", default=shutil.which("opa"), help="the program; else the one on PATH")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    if told.opa is None:
        parser.error("there is no opa on PATH; name it with --opa")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    figures = asyncio.run(measure(told))
    times = figures["batched"]["per_second"] / figures["one by one"]["per_second"]
    if told.json:
        print(json.dumps({**figures, "batched_times": times}))
    else:
        for name, found in figures.items():
            print(f"{name:10} {found['per_second']:9,.0f} a second   p50 {found['p50_ms']:8.3f} ms", end="")
            print(f"   p99 {found['p99_ms']:8.3f} ms")
        print(f"batched is {times:.1f} times one by one")
    if told.check and times < TIMES:
        print(f"not good enough: {times:.1f} times, {TIMES:.0f} wanted", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
