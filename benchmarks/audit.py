"""What `soar audit` costs on a large journal: questions, verification, retention, erasure; time and memory.

python benchmarks/audit.py [--alerts N] [--postgres DSN] [--json]

N alerts of a hundred days ago are put into an SQLite store, or into the database of a DSN, which must be empty, each
with its record, its entry and payload. Then the commands run as a person runs them, each in a process of its own, whose
most memory is told. While retention is at work somebody else commits one fact after another: how long the slowest of
them waited is what retention takes from the hot path.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from soar.engine.retention import PAUSE_SECONDS, Retention
from soar.engine.scribe import Scribe
from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.merkle import Frontier
from soar.journal.note import Signer
from soar.model.alert import Alert, Outcome, Severity
from soar.model.clock import SystemClock, UlidSource, earliest
from soar.model.entry import Entry, EntryType
from soar.service.storage import archive_of, store_of
from soar.settings import load_settings
from soar.store.port import Fact, InsertAlert, InsertRecord

ORIGIN = "bench.example/journal"
FIRST = datetime.now(UTC).replace(microsecond=0) - timedelta(days=100)
BATCH = 500
MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, file=sys.stderr)
sys.exit(code)
"""


def fact(number):
    """One alert as the intake records it."""
    at = FIRST + timedelta(milliseconds=number)
    name = earliest("alert", at)
    alert = Alert(
        id=name, uid=f"uid-{number}", source="bench", product="bench", title=f"Logon of user{number}",
        severity=Severity.LOW, severity_score=10, time=at, received_at=at,
        raw={"user": f"user{number}", "text": "x" * 600},
    )  # fmt: skip
    told = Entry(
        id=earliest("entry", at), type=EntryType.ALERT_ADMITTED, at=at, actor="intake", subject=name,
        data={"outcome": "no_match"}, payload={"alert": alert.model_dump(mode="json")},
    )  # fmt: skip
    coordinates = f"bench/0/{number}"
    insert = InsertAlert(
        alert=alert, outcome=Outcome.NO_MATCH, matches=(), coordinates=coordinates, content="c", entry_id=told.id
    )
    return Fact(writes=(InsertRecord(coordinates=coordinates, at=at), insert), entries=(told,))


async def filled(config, alerts):
    """Fill the store, and sign it."""
    store = store_of(load_settings(config))
    await store.open()
    for start in range(0, alerts, BATCH):
        refusals = await store.commit([fact(number) for number in range(start, min(start + BATCH, alerts))])
        assert not any(refusals), refusals
    await signed(store, config)
    await store.close()


async def signed(store, config):
    """Sign what is there."""
    size, raw = await store.tree()
    signer = Signer.from_text((config.parent / "journal.key").read_text())
    checkpoint = Checkpoint(origin=ORIGIN, size=size, root=Frontier.from_bytes(raw).root())
    await store.add_checkpoint(size, sign_checkpoint(checkpoint, signer))


async def swept(config):
    """Retention, beside somebody who commits all the time; seconds each."""
    loaded = load_settings(config)
    store, other = store_of(loaded), store_of(loaded)
    await store.open()
    await other.open()
    scribe = Scribe(clock=SystemClock(), ids=UlidSource())
    waits, done = [], asyncio.Event()

    async def commit():
        while not done.is_set():
            began = time.perf_counter()
            assert await other.commit([Fact(entries=(scribe.entry(EntryType.HALT_SET, "halt"),))]) == [None]
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(0.005)

    committing = asyncio.create_task(commit())
    await asyncio.sleep(1.0)
    alone = sorted(waits)
    waits.clear()
    began = time.perf_counter()
    retention = Retention(store=store, scribe=scribe, folder=archive_of(loaded), days=90)
    result = await retention.sweep(pause_seconds=PAUSE_SECONDS / 10)
    took = time.perf_counter() - began
    done.set()
    await committing
    beside = sorted(waits)
    await signed(store, config)
    await store.close()
    await other.close()
    files = list((config.parent / "data" / "archive").glob("*.gz"))
    return {
        "seconds": took, "payloads": result.payloads, "files": result.files, "rows": result.forgotten.rows,
        "archive_mb": sum(file.stat().st_size for file in files) / 1e6,
        "commits_alone_p99_ms": 1000 * alone[len(alone) * 99 // 100],
        "commits_beside_p99_ms": 1000 * beside[len(beside) * 99 // 100], "slowest_ms": 1000 * beside[-1],
    }  # fmt: skip


def command(config, *words):
    """One command: seconds, and the most memory in MB."""
    argv = [sys.executable, "-c", MEASURED, sys.executable, "-m", "soar", "audit", *words, "--config", str(config)]
    began = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return {"seconds": time.perf_counter() - began, "mb": int(done.stderr.split()[-1])}


def main(arguments):
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--alerts", type=int, default=100_000)
    parser.add_argument("--postgres")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "soar.yaml"
        document = {
            "journal": {"origin": ORIGIN, "key": "journal.key"},
            "people": [{"name": "root"}],
            "cli": {"act_as": True},
        }
        if chosen.postgres:
            (Path(folder) / "database").write_text(chosen.postgres)
            (Path(folder) / "database").chmod(0o600)
            document["store"] = {"url": f"secret://file{folder}/database"}
        config.write_text(json.dumps(document))
        (Path(folder) / "journal.key").write_text(Signer.generate(ORIGIN).to_text())
        (Path(folder) / "journal.key").chmod(0o600)
        began = time.perf_counter()
        asyncio.run(filled(config, chosen.alerts))
        print(f"filled in {time.perf_counter() - began:,.1f} s", file=sys.stderr)
        middle = (FIRST + timedelta(milliseconds=chosen.alerts // 2)).isoformat().replace("+00:00", "Z")
        asked = ("--format", "csv")
        for name, measure in (
            ("start", lambda: command(config, "status")),
            ("newest 1000", lambda: command(config, "query", *asked)),
            ("by time", lambda: command(config, "query", "--when", f"{middle}..{middle}", *asked)),
            ("by person", lambda: command(config, "query", "--who", "nobody", *asked)),
            ("by type", lambda: command(config, "query", "--type", "run.finished", *asked)),
            ("everything", lambda: command(config, "query", "--all", *asked)),
            ("verify", lambda: command(config, "verify")),
            ("retention", lambda: asyncio.run(swept(config))),
            ("verify with archive", lambda: command(config, "verify", "--archive")),
            ("everything, archived", lambda: command(config, "query", "--all", *asked)),
            (
                "erase",
                lambda: command(config, "erase", "--subject", "user77", "--reason", "r", "--as", "root", "--yes"),
            ),
            ("verify after erasure", lambda: command(config, "verify", "--archive")),
        ):
            numbers = measure()
            if chosen.json:
                print(json.dumps({name: numbers}), flush=True)
            else:
                shown = "  ".join(f"{key} {value:,.2f}" for key, value in numbers.items())
                print(f"{name:22} {shown}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
