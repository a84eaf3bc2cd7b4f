"""The count of everything that was in a topic, by a program of its own that shares no code with soar.

It reads Kafka (every record there is, the group's offsets, the topic of dead letters), PostgreSQL by plain SQL, and the
lab's log. What soar's rows mean is said in `OUTCOMES`, `RUNS`, `LETTERS` and `TOLD`, and nowhere else here.

    python -m tests.chaos.ledger SPEC      # a Spec as JSON; prints counts and problems as JSON
"""

import asyncio
import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

EXPECTED, FAULT, NUMBER = "chaos-expected", "chaos-fault", "chaos-number"
OUTCOMES = """
SELECT coordinates, outcome FROM alerts
UNION ALL SELECT coordinates, 'dead_letter' FROM dead_letters
"""
"""One row for each outcome: of which record by its coordinates `source/topic@cluster/partition/offset`, and what."""
RUNS = """
SELECT runs.id, runs.state, alerts.uid, alerts.id, runs.error,
    EXISTS (SELECT FROM attempts WHERE run_id = runs.id AND attempts.state = 'unknown'),
    EXISTS (SELECT FROM attempts WHERE run_id = runs.id AND attempts.state = 'intended')
FROM runs LEFT JOIN alerts ON alerts.id = runs.alert_id
"""
LETTERS = "SELECT id FROM dead_letters"
TOLD = """
SELECT id, idx FROM entries WHERE type IN ('alert.admitted', 'run.created', 'run.finished', 'approval.requested',
    'approval.closed', 'action.outcome')
"""
"""Entries of the journal that have an event each, with their places."""
ENDED, RESTS = frozenset({"succeeded"}), frozenset({"succeeded", "needs_review"})


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Where the witnesses are, and what was promised to the producer."""

    servers: str
    topic: str
    group: str
    database: str
    lab_log: str
    letters: str | None = None  # topic of dead letters
    events: str | None = None  # topic of lifecycle events
    acknowledged: int = 0  # so many records at least must be in the topic, each counted once
    to_the_end: bool = True  # else only what the group has committed must be accounted for
    effects: dict[str, dict[str, int]] = field(default_factory=dict)
    """By rule, what a run that succeeded has done in the lab."""


class Seen(NamedTuple):
    """One record of the topic."""

    number: int  # one that was sent again is there twice
    expected: str
    fault: str
    name: bytes  # the same for the same value
    uid: str | None  # of what starts a run


@dataclass
class Count:
    """What was counted, and what is wrong."""

    counts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def wrong(self, name: str, cases: Iterable[object]) -> None:
        """Count cases of something that must not be; the first few are told."""
        found = list(cases)
        self.counts[name] = len(found)
        if found:
            self.problems.append(f"{name}: {len(found)}, such as {'; '.join(map(str, found[:3]))}")


async def count(spec: Spec) -> Count:
    """Hold all witnesses against each other."""
    found = Count()
    db = await asyncpg.connect(spec.database)
    try:
        outcomes = [tuple(row) for row in await db.fetch(OUTCOMES)]
        runs = [tuple(row) for row in await db.fetch(RUNS)]
        letters = {row[0] for row in await db.fetch(LETTERS)}
        entries = {row[0]: row[1] for row in await db.fetch(TOLD)}
    finally:
        await db.close()
    committed, cluster = await group(spec)
    topic, due = {}, set()
    async for message in everything(spec.servers, spec.topic):
        at = f"{spec.topic}@{cluster}/{message.partition}/{message.offset}"
        topic[at] = seen(message)
        if message.offset < committed.get(message.partition, 0):
            due.add(at)
    found.counts |= {"records": len(topic), "committed": len(due)}
    numbers = {each.number for each in topic.values()}
    found.counts["sent_twice"] = len(topic) - len(numbers)
    found.wrong("acknowledged_and_not_in_topic", range(max(0, spec.acknowledged - len(numbers))))
    if spec.to_the_end:
        found.wrong("not_committed", topic.keys() - due)
        due |= topic.keys()
    had: defaultdict[str, list[str]] = defaultdict(list)
    for coordinates, outcome in outcomes:
        had[coordinates.partition("/")[2]].append(outcome)
    found.counts["outcomes"] = dict(Counter(outcome for _, outcome in outcomes).most_common())
    found.wrong("lost", due - had.keys())
    found.wrong("outcomes_of_nothing", had.keys() - topic.keys())
    accounts(found, {at: topic[at] for at in had if at in topic}, had)
    effects(found, spec, {topic[at].uid for at in had if at in topic} - {None}, runs)
    if spec.letters is not None:
        sent = {
            dict(message.headers)["soar-letter"].decode() async for message in everything(spec.servers, spec.letters)
        }
        found.counts["letters_sent"] = len(sent)
        found.wrong("letters_not_sent", letters - sent)
    if spec.events is not None:
        events(found, [json.loads(message.value) async for message in everything(spec.servers, spec.events)], entries)
    return found


async def group(spec: Spec) -> tuple[dict[int, int], str]:
    """How far the group has committed each partition, and the cluster's own name."""
    admin = AIOKafkaAdminClient(bootstrap_servers=spec.servers)
    await admin.start()
    try:
        told = await admin.list_consumer_group_offsets(spec.group)
        cluster = (await admin.describe_cluster())["cluster_id"]
    finally:
        await admin.close()
    return {each.partition: told[each].offset for each in told if each.topic == spec.topic}, str(cluster)


async def everything(servers: str, topic: str) -> AsyncIterator[Any]:
    """Every record that is in a topic now."""
    wanted = {"bootstrap_servers": servers, "auto_offset_reset": "earliest", "fetch_max_bytes": 32 << 20}
    async with AIOKafkaConsumer(topic, **wanted) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        left = {each for each, end in ends.items() if end}
        while left:
            async with asyncio.timeout(60):
                fetched = await consumer.getmany(timeout_ms=1000, max_records=5000)
            for each, messages in fetched.items():
                for message in messages:
                    if message.offset < ends[each]:
                        yield message
            left = {each for each in left if await consumer.position(each) < ends[each]}


def seen(message: Any) -> Seen:
    """What the ledger keeps of a record."""
    headers = dict(message.headers)
    expected = headers[EXPECTED].decode()
    uid = json.loads(message.value)["id"] if expected == "matched" else None
    name = hashlib.sha256(message.value or b"").digest()[:12]
    return Seen(int(headers[NUMBER]), expected, headers[FAULT].decode(), name, uid)


def accounts(found: Count, topic: dict[str, Seen], had: dict[str, list[str]]) -> None:
    """Each record has exactly the outcome that it must have."""
    found.counts["malformed"] = dict(sorted(Counter(each.fault for each in topic.values() if each.fault).items()))
    alike: defaultdict[tuple[bytes, str], list[str]] = defaultdict(list)
    for at, each in topic.items():
        alike[each.name, each.expected].append(at)
    wrong = []
    for (_, expected), places in alike.items():
        got = sorted(sorted(had[at]) for at in places)
        if not any(got == repeated(way.split("+"), len(places)) for way in expected.split("|")):
            told = f"{places[0]} {topic[places[0]].fault}"
            wrong.append(f"{told} and {len(places) - 1} alike: {got}, not once {expected}")
    found.wrong("wrong_outcomes", wrong)


def repeated(outcomes: list[str], times: int) -> list[list[str]]:
    """What becomes of one value that comes so many times, as a producer's repeat or because its answer was lost."""
    again = [outcome if outcome == "dead_letter" else "duplicate" for outcome in outcomes]
    return sorted([sorted(outcomes), *[sorted(again)] * (times - 1)])


def effects(found: Count, spec: Spec, wanted: set[str | None], runs: list[Any]) -> None:
    """Each alert that starts a run has one; nothing happened twice, and what is said to be done was done."""
    started = Counter(uid for _, _, uid, *_ in runs)
    found.counts["runs"] = dict(Counter(state for _, state, *_ in runs).most_common())
    found.wrong("alerts_without_their_one_run", [uid for uid in wanted if started[uid] != 1])
    found.wrong("runs_of_nothing", [uid for uid in started if uid not in wanted])
    restless = [f"{run} {state} {error}" for run, state, _, _, error, *_ in runs if state not in RESTS]
    if spec.to_the_end:
        found.wrong("runs_not_at_rest", restless)
    baseless = [run for run, state, *_, unknown, _ in runs if state == "needs_review" and not unknown]
    found.wrong("reviews_without_an_unknown", baseless)
    found.wrong("ended_with_an_open_intent", [run for run, state, *_, open_ in runs if state in ENDED and open_])
    reached, applied, keys = lab(Path(spec.lab_log))
    found.counts["lab_effects"] = dict(sum(applied.values(), Counter()))
    found.wrong("effects_of_nothing", [tag for tag in reached if tag not in wanted])
    found.wrong("effects_twice", [f"{tag} {what}" for tag, did in applied.items() for what in did if did[what] > 1])
    found.wrong("keys_with_two_effects", [key for key, times in keys.items() if times > 1])
    found.wrong("unsafe_calls_beyond_one", [tag for tag, did in reached.items() if did["say"] > 1])
    done = [(uid, spec.effects[uid.split("-")[1]]) for _, state, uid, *_ in runs if state in ENDED and uid]
    found.wrong("succeeded_without_all_effects", [uid for uid, all_ in done if +applied.get(uid, Counter()) != all_])


def events(found: Count, sent: list[dict[str, Any]], entries: dict[str, int]) -> None:
    """From the first on each entry that is told of has its event; those of one key came in order, but for repeats."""
    first = min((int(event["sequence"]) for event in sent), default=0)
    told = {event["id"] for event in sent}
    newest: dict[str, int] = {}
    seen_before, early = set(), []
    for event in sent:
        key, place = event["partitionkey"], int(event["sequence"])
        if event["id"] not in seen_before and place < newest.get(key, 0):
            early.append(f"{key} {place}")
        seen_before.add(event["id"])
        newest[key] = max(place, newest.get(key, 0))
    found.counts |= {"events_sent": len(sent), "events_sent_again": len(sent) - len(told)}
    found.wrong("events_not_sent", [name for name, place in entries.items() if place >= first and name not in told])
    found.wrong("events_of_nothing", told - entries.keys())
    found.wrong("events_out_of_order", early)


def lab(path: Path) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]], Counter[str]]:
    """By alert, what reached the lab and what took effect there; and effects by idempotency key."""
    reached: defaultdict[str, Counter[str]] = defaultdict(Counter)
    applied: defaultdict[str, Counter[str]] = defaultdict(Counter)
    keys: Counter[str] = Counter()
    for text in path.read_bytes().split(b"\n")[:-1]:
        line = json.loads(text)
        if line["method"] == "GET":
            continue
        tag, what = about(line)
        reached[tag][what] += 1
        applied[tag][what] += line["applied"]
        keys[line["idempotency_key"]] += line["applied"] and line["idempotency_key"] is not None
    return dict(reached), dict(applied), keys


def about(line: dict[str, Any]) -> tuple[str, str]:
    """The alert that a line of the lab's log belongs to, and what was asked for."""
    body = line["body"] or {}
    match line["system"], *line["path"].strip("/").split("/"):
        case "desk", "tickets":
            return body["title"], "ticket"
        case "chat", "messages":
            return body["text"], "say"
        case "chat", "pages":
            return body["summary"], "page"
        case "edr", "hosts", tag, verb:
            return tag, verb
    raise AssertionError(f"the lab was asked for something that no playbook asks for: {line}")


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(count(Spec(**json.loads(sys.argv[1])))))))  # noqa: T201 - this is the answer
