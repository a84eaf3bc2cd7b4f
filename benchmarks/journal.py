"""What the journal costs: recording, and at a million entries export, offline verification and proofs; time, memory.

python benchmarks/journal.py [--entries N] [--recorded N] [--postgres DSN] [--json]

First entries go through the recorder into an SQLite store, and into PostgreSQL where a DSN is given, from as many
callers as a busy service has. Then a log is made in runs of twenty and kept in an SQLite file together with the nodes
that proofs are made from, so that proofs are measured as a store gives them. Memory is the most that the process held
so far; each verification runs in a process of its own. No clean log may raise an alarm: that ends it with exit code 1.
"""

import argparse
import asyncio
import json
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from soar.engine.recorder import Recorder
from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.export import Export
from soar.journal.folder import open_export
from soar.journal.leaf import seal
from soar.journal.merkle import Frontier, consistency_proof, inclusion_proof, root_of
from soar.journal.note import Signer
from soar.journal.proof import prove_entry, read_nodes
from soar.journal.tiles import TILE_WIDTH
from soar.journal.tiling import Tiling
from soar.journal.trust import TrustPolicy
from soar.journal.verify import StoredEntry
from soar.model.clock import UlidSource
from soar.model.entry import Entry, EntryType
from soar.store.port import Fact
from soar.store.postgres.store import PostgresStore
from soar.store.sqlite.store import SqliteStore

ORIGIN = "bench.example/journal"
SIGNER = Signer(ORIGIN, bytes(32))
POLICY = TrustPolicy.of([SIGNER.verifier])
AT = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 1000
CALLERS = 1000
PROOFS = 300

SCHEMA = """
CREATE TABLE entries (idx INTEGER PRIMARY KEY, leaf BLOB NOT NULL, leaf_hash BLOB NOT NULL);
CREATE TABLE subtrees (level INTEGER, idx INTEGER, hash BLOB NOT NULL, PRIMARY KEY (level, idx)) WITHOUT ROWID;
"""


def entry(number):
    """One of twenty entries of a run, five runs at a time."""
    run = f"run-{number % 5}-{number // 100}"
    return Entry(
        id=f"entry-{number}",
        type=EntryType.STEP_FINISHED,
        at=AT,
        actor="worker:a",
        run_id=run,
        subject=run,
        data={"path": "steps.isolate", "state": "succeeded"},
        payload={"result": {"host": f"pc-{number}", "isolated": True}},
    )


def sealed(count):
    """Leaves and leaf hashes, chained by run."""
    chains = {}
    for number in range(count):
        told = entry(number)
        sequence, previous = chains.get(told.run_id, (0, ""))
        found = seal(told, run_seq=sequence, run_prev=previous)
        chains[told.run_id] = (sequence + 1, found.leaf_hash.hex())
        if sequence == 19:
            del chains[told.run_id]
        yield found


def fill(db, count):
    """Append so many entries a thousand at a time, as group commit does, with the nodes above them."""
    frontier, tiling = Frontier(), Tiling()
    batch = []
    for number, found in enumerate(sealed(count)):
        batch.append((number, found.leaf, found.leaf_hash))
        if len(batch) == BATCH or number == count - 1:
            hashes = [row[2] for row in batch]
            frontier = frontier.extend(hashes)
            full = [(tile.level + 1, tile.index, root_of(split(raw))) for tile, raw in tiling.extend(hashes)]
            db.executemany("INSERT INTO entries VALUES (?, ?, ?)", batch)
            db.executemany("INSERT INTO subtrees VALUES (?, ?, ?)", full)
            db.commit()
            batch = []
    return frontier


def split(raw):
    """The hashes of a tile."""
    return [raw[at : at + 32] for at in range(0, len(raw), 32)]


def reader(db):
    """How a store reads a tile: a range of leaf hashes, or of the nodes above them."""

    async def read(tile):
        first = tile.index * TILE_WIDTH
        if tile.level:
            found = db.execute(
                "SELECT hash FROM subtrees WHERE level = ? AND idx >= ? ORDER BY idx LIMIT ?",
                (tile.level, first, tile.width),
            )
        else:
            found = db.execute("SELECT leaf_hash FROM entries WHERE idx >= ? ORDER BY idx LIMIT ?", (first, tile.width))
        return b"".join(row[0] for row in found)

    return read


def waited(coroutine):
    """The result of a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("it waited")


def proofs(db, count, note):
    """Milliseconds for a proof of one entry, and for one that the log grew, median and worst."""
    pick, one, grown = random.Random(1), [], []
    for _ in range(PROOFS):
        index = pick.randrange(count)
        started = time.perf_counter()

        def make(nodes, index=index):
            return inclusion_proof(index, count, nodes)

        leaf = db.execute("SELECT leaf FROM entries WHERE idx = ?", (index,)).fetchone()[0]
        prove_entry(index, leaf, note=note, nodes=waited(read_nodes(count, make, reader(db)))).to_text()
        one.append((time.perf_counter() - started) * 1e3)

        def grow(nodes, size=index + 1):
            return consistency_proof(size, count, nodes)

        started = time.perf_counter()
        grow(waited(read_nodes(count, grow, reader(db))))
        grown.append((time.perf_counter() - started) * 1e3)
    return {"entry": [statistics.median(one), max(one)], "consistency": [statistics.median(grown), max(grown)]}


def exported(db, folder, note):
    """Write the export."""
    export = Export(folder, policy=POLICY)
    for index, leaf in db.execute("SELECT idx, leaf FROM entries ORDER BY idx"):
        export.take(StoredEntry(index=index, leaf=leaf))
    export.finish(note)


async def recorded(store, count):
    """Seconds for so many entries through the recorder, each caller waiting for its own."""
    await store.open()
    recorder = Recorder(store)
    await recorder.start()
    ids = UlidSource()  # as the service names its entries, in the order of time

    async def call(first):
        for number in range(first, count, CALLERS):
            loose = replace(entry(number), id=ids.new("entry"), run_id=None)
            await recorder.record(Fact(entries=(loose,)))

    started = time.perf_counter()
    await asyncio.gather(*map(call, range(CALLERS)))
    seconds = time.perf_counter() - started
    await recorder.stop()
    await store.close()
    return seconds


def megabytes(who):
    """The most memory so far."""
    return resource.getrusage(who).ru_maxrss / 1024


def verify(folder):
    """Verify an export in this process; what `--verify` runs."""
    opened = open_export(folder, policy=POLICY)
    print(json.dumps({"ok": opened.ok, "entries": opened.report.entries, "mb": megabytes(resource.RUSAGE_SELF)}))
    return 0 if opened.ok else 1


def timed(work, *arguments):
    """Seconds and result."""
    started = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - started, result


def run(command):
    """A verifier as its own process; any alarm over a clean log ends the benchmark."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"false alarm: {done.stdout}{done.stderr}")
    return done.stdout


def measure(told, folder):
    """All figures."""
    count = told.entries
    db = sqlite3.connect(folder / "log.db")
    db.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; {SCHEMA}")
    figures = {"entries": count, "recorded": told.recorded, "record_s": {}}
    stores = {"sqlite": SqliteStore(folder / "soar.db")}
    if told.postgres:
        stores["postgres"] = PostgresStore(told.postgres)
    for name, store in stores.items():
        figures["record_s"][name] = asyncio.run(recorded(store, told.recorded))
    figures["append_s"], frontier = timed(fill, db, count)
    note = sign_checkpoint(Checkpoint(ORIGIN, count, frontier.root()), SIGNER)
    figures["proof_ms"] = proofs(db, count, note)
    figures["export_s"], _ = timed(exported, db, folder / "export", note)
    figures["export_mb"] = megabytes(resource.RUSAGE_SELF)
    ours = [sys.executable, __file__, "--verify", str(folder / "export")]
    figures["verify_s"], told = timed(run, ours)
    figures["verify_mb"] = json.loads(told)["mb"]
    figures["standalone_s"], _ = timed(run, [sys.executable, "-I", str(folder / "export" / "verify.py")])
    return figures


def main():
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--recorded", type=int, default=50_000)
    parser.add_argument("--postgres", metavar="DSN")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--verify", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.verify:
        sys.exit(verify(told.verify))
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(told, Path(folder))
    if told.json:
        print(json.dumps(figures))
        return
    one, grown = figures["proof_ms"]["entry"], figures["proof_ms"]["consistency"]
    for name, seconds in figures["record_s"].items():
        print(f"{name:12} {told.recorded / seconds:,.0f} entries a second through the recorder, {CALLERS} callers")
    print(f"append       {told.entries:,} entries in {figures['append_s']:.1f} s,")
    print(f"             {told.entries / figures['append_s']:,.0f} a second, {BATCH:,} a commit")
    print(f"proofs       of an entry {one[0]:.1f} ms, at worst {one[1]:.1f}; of growth {grown[0]:.1f}, {grown[1]:.1f}")
    print(f"export       {figures['export_s']:.1f} s, {figures['export_mb']:.0f} MB of memory")
    print(f"verify       {figures['verify_s']:.1f} s, {figures['verify_mb']:.0f} MB of memory, no false alarm")
    print(f"verify.py    {figures['standalone_s']:.1f} s, alone")


if __name__ == "__main__":
    main()
