"""What happened, by two witnesses: the lab's own log, and the database as it lies there, read without soar's store."""

import asyncio
import contextlib
import json
import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from soar.engine.audit import verify_store
from soar.lab import read_log
from soar.service import assemble
from soar.settings import load_settings

from .fleet import environ_of
from .site import EXPECTED, Site

FINAL = frozenset({"succeeded", "failed", "denied", "cancelled"})
ONCE = ("ticket", "page", "isolate", "release", "block")
"""What is keyed, idempotent or verifiable, and must have taken effect once at most. `say` is unsafe."""


class RunRow(NamedTuple):
    id: str
    kind: str
    state: str
    playbook: str
    alert_id: str | None
    parent: str | None
    epoch: int
    error: str | None


class AttemptRow(NamedTuple):
    run_id: str
    path: str
    number: int
    state: str
    effect: str


class EntryRow(NamedTuple):
    index: int
    type: str
    run_id: str | None
    at: str
    leaf: dict[str, Any]


AWAY = (OSError, sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What reading raises while the database is away; TimeoutError is an OSError."""


class Database:
    """Rows of one site's store, read on a connection of its own."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._db: Any = None
        self._turn = asyncio.Lock()
        site.closing.append(self._hang_up)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """One query; raises what is in AWAY."""
        if self.site.database is None:
            return await asyncio.to_thread(_of_sqlite, self.site.config.parent / "data" / "soar.db", sql)
        async with asyncio.timeout(20), self._turn:
            if self._db is None or self._db.is_closed():
                self._db = await asyncpg.connect(self.site.database, timeout=5)
            try:
                return [tuple(row) for row in await self._db.fetch(sql)]
            except BaseException:
                self._db.terminate()
                raise

    def _hang_up(self) -> None:
        if self._db is not None:
            self._db.terminate()

    async def runs(self) -> list[RunRow]:
        sql = "SELECT id, kind, state, playbook_id, alert_id, parent_run_id, epoch, error FROM runs"
        return [RunRow(*row) for row in await self.rows(sql)]

    async def attempts(self) -> list[AttemptRow]:
        sql = "SELECT run_id, path, number, state, effect FROM attempts ORDER BY run_id, path, number"
        return [AttemptRow(*row) for row in await self.rows(sql)]

    async def entries(self, since: int = 0) -> list[EntryRow]:
        sql = f"SELECT idx, type, run_id, at, leaf FROM entries WHERE idx >= {since} ORDER BY idx"
        return [EntryRow(*row[:3], str(row[3]), json.loads(row[4])) for row in await self.rows(sql)]

    async def active(self) -> int:
        """How many runs have neither ended nor rest until somebody says something."""
        sql = f"SELECT count(*) FROM runs WHERE state IN ('ready', 'running') OR ({_SLEEPS})"
        return int((await self.rows(sql))[0][0])

    async def unsent(self) -> int:
        """How many dead letters and entries of the journal wait to be sent to their topics."""
        letters = "SELECT count(*) FROM dead_letters WHERE NOT sent"
        entries = "SELECT size - position FROM tree, outboxes WHERE name = 'events'"
        return int((await self.rows(f"SELECT ({letters}) + coalesce(({entries}), 0)"))[0][0])

    async def busy(self) -> int:
        """How many runs a worker has in hand, or could take."""
        return int((await self.rows("SELECT count(*) FROM runs WHERE state IN ('ready', 'running')"))[0][0])


# A run that waits for a person waits well; one that waits for its child does as long as the child goes on.
_SLEEPS = (
    "state = 'waiting' AND id NOT IN (SELECT run_id FROM approvals WHERE state = 'pending') AND id NOT IN "
    "(SELECT parent_run_id FROM runs WHERE parent_run_id IS NOT NULL AND kind = 'call' AND state = 'needs_review')"
)


def _of_sqlite(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
        return db.execute(sql).fetchall()


@dataclass
class Verdict:
    """What was counted, and what is wrong."""

    counts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def wrong(self, name: str, cases: list[str]) -> None:
        """Count cases of something that must not be; the first few are told."""
        self.counts[name] = len(cases)
        if cases:
            self.problems.append(f"{name}: {len(cases)}, such as {'; '.join(cases[:3])}")


def calls_of(site: Site) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """By alert, what reached the lab and what took effect there."""
    reached: defaultdict[str, Counter[str]] = defaultdict(Counter)
    applied: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in read_log(site.lab_log):
        told = about(line)
        if told is not None:
            tag, kind = told
            reached[tag][kind] += 1
            applied[tag][kind] += line["applied"]
    return dict(reached), dict(applied)


def about(line: dict[str, Any]) -> tuple[str, str] | None:
    """The alert that a line of the lab's log belongs to, and what was asked for; None for a look."""
    if line["method"] == "GET":
        return None
    body, path = line["body"] or {}, line["path"].strip("/").split("/")
    match line["system"], *path:
        case "desk", "tickets":
            return body["title"], "ticket"
        case "chat", "messages":
            return body["text"], "say"
        case "chat", "pages":
            return body["summary"], "page"
        case "edr", "hosts", tag, verb:
            return tag, verb
        case "firewall", "rules":
            return body["ip"], "block"
    raise AssertionError(f"the lab was asked for something that no playbook asks for: {line}")


async def judge(site: Site, *, may_fail: bool = False) -> Verdict:
    """Hold both witnesses against each other; `may_fail` where a run that failed, and says so, is no surprise."""
    database = Database(site)
    runs, attempts = await database.runs(), await database.attempts()
    alerts = await database.rows("SELECT id, uid, outcome, coordinates FROM alerts")
    records = await database.rows("SELECT count(*) FROM records")
    reached, applied = _by_tag(site)
    verdict = Verdict()
    verdict.counts |= {
        "records": records[0][0],
        "acknowledged": len(site.acknowledged),
        "alerts": dict(Counter(outcome for _, _, outcome, _ in alerts)),
        "runs": dict(Counter(run.state for run in runs)),
        "actions": dict(sorted(Counter(f"{a.effect}/{a.state}" for a in attempts).items())),
        "lab_effects": dict(sum(applied.values(), Counter())),
    }
    tags = {alert_id: uid for alert_id, uid, _, _ in alerts}
    _lost(verdict, site, runs, tags, alerts)
    _doubled(verdict, reached, applied)
    _wrongly_ended(verdict, runs, attempts, tags, applied)
    _without_intent(verdict, runs, attempts, tags, reached)
    verdict.wrong("stuck", await _stuck(database))
    if not may_fail:
        verdict.wrong("failed", [f"{run.id} {run.error}" for run in runs if run.state == "failed"])
    asked = await database.rows("SELECT alert_id, approvals.state FROM approvals JOIN runs ON runs.id = run_id")
    unused = [tags[alert_id] for alert_id, state in asked if state != "consumed"]
    verdict.wrong("acted_without_consent", [tag for tag in unused if reached.get(tag, Counter())["isolate"]])
    await _journal(verdict, site, database)
    return verdict


def _by_tag(site: Site) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """As `calls_of`, with addresses resolved to the alerts that named them."""
    reached, applied = calls_of(site)
    for table in (reached, applied):
        for tag in list(table):
            if tag.startswith("198."):
                owner = site.owners[tag]
                table.setdefault(owner, Counter()).update(table.pop(tag))
    return reached, applied


def _lost(verdict: Verdict, site: Site, runs: list[RunRow], tags: dict[str, str], alerts: list[Any]) -> None:
    matched = Counter(uid for _, uid, outcome, _ in alerts if outcome == "matched")
    verdict.wrong("lost_alerts", sorted(site.acknowledged - matched.keys()))
    verdict.wrong("alerts_taken_twice", [uid for uid, count in matched.items() if count > 1])
    started = Counter(tags[run.alert_id] for run in runs if run.kind == "alert" and run.alert_id)
    verdict.wrong("alerts_without_their_one_run", [uid for uid in matched if started[uid] != 1])


def _doubled(verdict: Verdict, reached: dict[str, Counter[str]], applied: dict[str, Counter[str]]) -> None:
    twice = [f"{tag} {kind} {n}" for tag, kinds in applied.items() for kind, n in kinds.items() if n > 1]
    verdict.wrong("duplicate_effects", [case for case in twice if case.split()[1] in ONCE])
    verdict.wrong(
        "unsafe_calls_beyond_one", [f"{tag} {kinds['say']}" for tag, kinds in reached.items() if kinds["say"] > 1]
    )


def _wrongly_ended(
    verdict: Verdict,
    runs: list[RunRow],
    attempts: list[AttemptRow],
    tags: dict[str, str],
    applied: dict[str, Counter[str]],
) -> None:
    tries: defaultdict[str, list[AttemptRow]] = defaultdict(list)
    for attempt in attempts:
        tries[attempt.run_id].append(attempt)
    wrongly, baseless, open_ended = [], [], []
    undone = {run.parent for run in runs if run.kind == "undo" and run.state == "succeeded"}
    for run in runs:
        tag = tags[run.alert_id or ""]
        if run.kind == "alert" and run.state == "succeeded":
            expected = dict(EXPECTED[tag.split("-")[1]])
            if run.id not in undone:
                expected.pop("release", None)
            found = +applied.get(tag, Counter())
            if dict(found) != expected:
                wrongly.append(f"{tag} {dict(found)}")
        if run.state == "needs_review" and not any(a.state == "unknown" for a in tries[run.id]):
            baseless.append(f"{run.id} {run.error}")
        if run.state in FINAL:
            open_ended += [f"{run.id} {run.state} {a.path}" for a in tries[run.id] if a.state == "intended"]
    verdict.wrong("wrongly_succeeded", wrongly)
    verdict.wrong("reviews_without_an_unknown", baseless)
    verdict.wrong("ended_with_an_open_intent", open_ended)


def _without_intent(
    verdict: Verdict,
    runs: list[RunRow],
    attempts: list[AttemptRow],
    tags: dict[str, str],
    reached: dict[str, Counter[str]],
) -> None:
    """No call reaches the lab that no intent stands for: not more calls than attempts, kind by kind."""
    owners = {run.id: (tags[run.alert_id or ""], run.kind) for run in runs}
    intended: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for attempt in attempts:
        tag, kind = owners[attempt.run_id]
        intended[tag]["release" if kind == "undo" else attempt.path.rpartition(".")[2]] += 1
    verdict.wrong(
        "calls_without_intent",
        [
            f"{tag} {kind} {count} calls, {intended[tag][kind]} intents"
            for tag, kinds in reached.items()
            for kind, count in kinds.items()
            if count > intended[tag][kind]
        ],
    )


async def _stuck(database: Database) -> list[str]:
    rows = await database.rows(
        f"SELECT id, state, wake_at FROM runs WHERE state IN ('ready', 'running') OR ({_SLEEPS})"
    )
    return [" ".join(map(str, row)) for row in rows]


async def _journal(verdict: Verdict, site: Site, database: Database) -> None:
    """The journal stands as it was signed; epochs only rise; a consent was used once."""
    newest: dict[str, int] = {}
    used: Counter[str] = Counter()
    late = []
    entries = await database.entries()
    for entry in entries:
        data = entry.leaf.get("data", {})
        if entry.type == "action.intent" and entry.run_id:
            if data["epoch"] < newest.get(entry.run_id, 0):
                late.append(f"{entry.run_id} {entry.index}")
            newest[entry.run_id] = max(data["epoch"], newest.get(entry.run_id, 0))
        if entry.type == "run.recovered" and entry.run_id:
            newest[entry.run_id] = max(data["epoch"] + 1, newest.get(entry.run_id, 0))
        if entry.type == "approval.consumed":
            used[entry.leaf["subject"]] += 1
    verdict.counts["entries"] = len(entries)
    verdict.counts["recoveries"] = sum(entry.type == "run.recovered" for entry in entries)
    verdict.wrong("intents_under_a_lost_lease", late)
    verdict.wrong("consents_used_twice", [name for name, count in used.items() if count > 1])
    async with assemble(load_settings(site.config, environ_of(site.database))) as service:
        origin = service.loaded.settings.journal.origin
        report = await verify_store(service.store, verifier=service.signer().verifier, origin=origin)
    verdict.wrong("journal_problems", [str(problem) for problem in report.problems] if not report.ok else [])


@dataclass
class Sampler:
    """Watches leases end and the runs being taken up again, by looking at the rows five times a second."""

    database: Database
    expired: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    looks: int = 0

    async def run(self) -> None:
        """Look until cancelled; a database that is away is looked at later."""
        while True:
            with contextlib.suppress(*AWAY):
                await self.look()
            await asyncio.sleep(0.2)

    async def look(self) -> None:
        sql = "SELECT id, epoch, state, lease_until FROM runs WHERE state IN ('running', 'ready')"
        now = datetime.now().astimezone()
        rows = {row[0]: row[1:] for row in await self.database.rows(sql)}
        for run_id, (epoch, state, until) in rows.items():
            if state != "running":
                continue
            until = datetime.fromisoformat(until) if isinstance(until, str) else until
            if until < now and run_id not in self.expired:
                self.expired[run_id] = (epoch, until)
        for run_id, (epoch, until) in list(self.expired.items()):
            row = rows.get(run_id)
            if row is None or row[0] > epoch:
                self.waits.append((now - until).total_seconds())
                del self.expired[run_id]
        self.looks += 1

    def figures(self) -> dict[str, Any]:
        """How long after the end of a lease its run was under way again, in seconds."""
        waits = sorted(self.waits)
        if not waits:
            return {"resumed": 0}
        p99 = waits[min(len(waits) - 1, int(len(waits) * 0.99))]
        return {"resumed": len(waits), "resumed_p99_seconds": round(p99, 2), "resumed_max_seconds": round(waits[-1], 2)}
