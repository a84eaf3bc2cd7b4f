"""The ceiling: what one process does that carries alerts from Kafka to a journal, written by hand for just that.

    python benchmarks/ceiling.py --kafka SERVERS --topic T --group G (--sqlite FILE | --postgres DSN)
                                 [--with-post URL --policies DIR]

It is what `throughput.py` measures soar against: nothing of soar's is imported, nothing is configurable, nothing is
checked. A batch of records is fetched, each is decoded and held against 1,000 rules by a bitset per field; three
journal rows of it, chained by SHA-256, are written in one durable transaction (SQLite with synchronous=FULL, or
PostgreSQL by COPY); then the offsets are committed. The next batch is fetched and worked out while this one is written.

With `--with-post` each alert that meets a rule gets one action: the policies decide on it, embedded, the intent is
durable before the POST, and the outcome is durable before the offsets are committed.
"""

import argparse
import asyncio
import hashlib
import sqlite3
import sys
from collections import defaultdict
from pathlib import Path

import aiohttp
import asyncpg
import orjson
import regorus
import yaml
from aiokafka import AIOKafkaConsumer
from feed import LOUD, SEVERITY

RULES = 1000
BATCH = 1000
IN_FLIGHT = 32
COLUMNS = ("n", "kind", "alert", "payload", "hash")
TABLE = "CREATE TABLE journal (n BIGINT PRIMARY KEY, kind TEXT, alert TEXT, payload {0}, hash {0})"


class Rules:
    """For each field's value, the rules that it may meet, as bits."""

    def __init__(self):
        self.ids, self.severities = defaultdict(int), defaultdict(int)
        for number, name in enumerate((*(f"rule-{number}" for number in range(RULES - 1)), LOUD)):
            self.ids[name] |= 1 << number
            self.severities[SEVERITY] |= 1 << number

    def met(self, alert):
        return self.ids.get(alert["rule"]["id"], 0) & self.severities.get(alert["severity"], 0)


class Journal:
    """Rows with a hash of all before them."""

    def __init__(self):
        self._n, self._hash = 0, bytes(32)

    def row(self, kind, alert_id, payload):
        self._n += 1
        self._hash = hashlib.sha256(self._hash + payload).digest()
        return self._n, kind, alert_id, payload, self._hash


class Sqlite:
    """Rows into a file; on return they are on the disk."""

    def __init__(self, path):
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(TABLE.format("BLOB"))

    async def write(self, rows):
        await asyncio.to_thread(self._write, rows)

    def _write(self, rows):
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?)", rows)
        self._db.execute("COMMIT")


class Postgres:
    """Rows into a server."""

    @classmethod
    async def open(cls, dsn):
        self = cls()
        self._db = await asyncpg.connect(dsn)
        await self._db.execute(TABLE.format("BYTEA"))
        return self

    async def write(self, rows):
        await self._db.copy_records_to_table("journal", records=rows, columns=COLUMNS)  # a transaction of its own


class Policies:
    """The rules on actions, evaluated in this process."""

    def __init__(self, folder):
        self._engine = regorus.Engine()
        for path in sorted(folder.rglob("*.rego")):
            if not path.name.endswith("_test.rego"):
                self._engine.add_policy(path.name, path.read_text())
        data = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((folder / "data").glob("*.yaml"))}
        self._engine.add_data_json(orjson.dumps(data).decode())

    def allow(self, alert, digest):
        action = {
            "id": "act", "connector": "sink", "connector_version": "1", "verb": "post", "capability": None,
            "effect": "reversible", "risk": "none", "reversible_by": None, "params": {"id": alert["id"]},
            "digest": digest, "targets": [],
        }  # fmt: skip
        facts = {
            "id": alert["id"], "source": "generic", "severity": alert["severity"], "confidence": None,
            "rule_id": alert["rule"]["id"], "entities": {},
        }  # fmt: skip
        asked = {
            "schema": "soar.input/v1", "phase": "plan", "mode": "enforce", "action": action, "alert": facts,
            "playbook": {"id": "loud", "version": None, "sha256": "00", "author": "bench"},
            "run": {"id": alert["id"], "kind": "alert", "attempt": 1, "depth": 0},
            "actor": {"id": "soar", "type": "service", "groups": []}, "approvals": [],
            "time": {
                "now_rfc3339": "2026-01-05T12:00:00Z", "unix": 1767614400, "weekday": "monday",
                "business_hours": True, "freeze": [],
            },
            "environment": {"name": "bench", "tenant": "default"},
            "counters": {"target": {}, "connector": {}, "playbook": {}, "fleet_percent": {}}, "halted": False,
        }  # fmt: skip
        self._engine.set_input_json(orjson.dumps(asked).decode())
        return orjson.loads(self._engine.eval_rule_as_json("data.soar.main.decision"))


class Ceiling:
    """All of it."""

    def __init__(self, store, policies, http, url):
        self.rules, self.journal = Rules(), Journal()
        self.store, self.policies, self.http, self.url = store, policies, http, url
        self.slots = asyncio.Semaphore(IN_FLIGHT)

    def read(self, messages):
        """Rows of these messages, and what is to be done about them."""
        rows, actions, row = [], [], self.journal.row
        for message in messages:
            alert = orjson.loads(message.value)
            name, met = alert["id"], self.rules.met(alert)
            rows.append(row("alert", name, message.value))
            if met and self.http:
                digest = hashlib.sha256(message.value).hexdigest()
                decision = self.policies.allow(alert, digest)
                if decision["effect"] == "allow":
                    actions.append(({"id": name, "title": alert["title"]}, digest))
                intent = {"alert": name, "rules": hex(met), "decision": decision, "digest": digest}
                rows.append(row("intent", name, orjson.dumps(intent)))
            else:
                told = {field: alert[field] for field in ("title", "severity", "time", "rule", "host", "user")}
                rows.append(row("triage", name, orjson.dumps(told)))
                outcome = {"alert": name, "rules": hex(met), "outcome": "no_match", "at": message.timestamp}
                rows.append(row("outcome", name, orjson.dumps(outcome)))
        return rows, actions

    async def act(self, body, key):
        async with (
            self.slots,
            self.http.post(self.url, json=body, headers={"Idempotency-Key": key}) as response,
        ):
            outcome = {"alert": body["id"], "status": response.status, "answer": await response.json()}
        return self.journal.row("outcome", body["id"], orjson.dumps(outcome))

    async def finish(self, consumer, fetched, rows, actions):
        """Make a batch durable, act on it, and say that it is done."""
        await self.store.write(rows)
        if actions:
            await self.store.write(await asyncio.gather(*(self.act(*action) for action in actions)))
        await consumer.commit({partition: messages[-1].offset + 1 for partition, messages in fetched.items()})

    async def run(self, consumer):
        finishing = None
        while True:
            fetched = await consumer.getmany(timeout_ms=100, max_records=BATCH)
            worked = self.read([message for messages in fetched.values() for message in messages])
            if finishing is not None:
                await finishing
            finishing = asyncio.create_task(self.finish(consumer, fetched, *worked)) if fetched else None


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--sqlite", type=Path)
    parser.add_argument("--postgres")
    parser.add_argument("--with-post")
    parser.add_argument("--policies", type=Path)
    told = parser.parse_args()
    store = await Postgres.open(told.postgres) if told.postgres else Sqlite(told.sqlite)
    policies = Policies(told.policies) if told.with_post else None
    consumer = AIOKafkaConsumer(
        told.topic, bootstrap_servers=told.kafka, group_id=told.group, enable_auto_commit=False,
        auto_offset_reset="earliest", fetch_max_bytes=16 << 20,
    )  # fmt: skip
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as session:
        await consumer.start()
        print("ready", flush=True)
        await Ceiling(store, policies, session if told.with_post else None, told.with_post).run(consumer)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
