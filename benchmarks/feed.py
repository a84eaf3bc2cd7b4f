"""What every candidate of `throughput.py` is given: alerts of about 2 KB in Kafka, and rules to hold them against.

Alerts are of two kinds. A quiet one meets no rule; a loud one meets exactly one. The rules are the same for all, in
each candidate's own language: they ask for a rule id and a severity.
"""

import asyncio
import contextlib
import json
import secrets
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

JOIN_SECONDS = 60.0
PARTITIONS = 6  # one, two and three workers have equal shares
LOUD, MARK = "rule-loud", "rule-mark"
MARK_EVERY = 100  # so many quiet alerts are told of by one that another engine, which commits nothing, can act on
SEVERITY = "high"


def alert(number, rule_id, name):
    """An alert as an EDR sends it, of about 2 KB."""
    host, user = f"ws-{number % 5000:05}.corp.example", f"user{number % 3000}"
    address = f"{number // 250 % 250}.{number % 250}"
    digest = f"{number * 2654435761 % 2**256:064x}"
    return {
        "id": f"{name}-{number}",
        "title": f"Credential access on {host}",
        "description": "A process that is not a browser read the store in which browsers keep passwords. " * 3,
        "severity": SEVERITY,
        "time": "2026-01-05T12:00:00Z",
        "product": "Example EDR",
        "status": "new",
        "rule": {"id": rule_id, "name": "Browser credential store read"},
        "tags": ["credential-access", "windows", "endpoint", f"site-{number % 40}"],
        "host": {"id": f"h-{number % 5000}", "name": host, "ip": f"10.1.{address}", "os": "w11"},
        "user": {"id": f"S-1-5-21-{number % 3000}", "name": user, "email": f"{user}@corp.example"},
        "src_ip": f"198.51.{address}",
        "dest_ip": f"203.0.113.{number % 250}",
        "process": {
            "name": "sync.exe",
            "pid": number % 60000,
            "path": "C:\\Users\\Public\\sync.exe",
            "command_line": f"sync.exe --read Login-Data --out C:\\Temp\\{number}.tmp " + "--verbose " * 12,
            "parent": {"name": "explorer.exe", "pid": 4242, "path": "C:\\Windows\\explorer.exe"},
        },
        "file": {"path": f"C:\\Temp\\{number}.tmp", "name": f"{number}.tmp", "sha256": digest},
        "threat": {"tactic": {"id": "TA0006"}, "technique": {"id": "T1555.003", "name": "Web browsers"}},
        "sensor": {"version": "7.11.1", "policy": "workstations", "groups": ["eu", "office"], "notes": "n" * 640},
    }  # fmt: skip


def encoded(number, rule_id, name):
    return json.dumps(alert(number, rule_id, name), separators=(",", ":")).encode()


def quiet(count, name):
    """Values of quiet alerts, one after the other in all partitions."""
    for number in range(count):
        yield encoded(number, MARK if number % MARK_EVERY == 0 else f"rule-of-nobody-{number % 500}", name)


def loud(count, name, first=0):
    """Values of loud alerts."""
    for number in range(first, first + count):
        yield encoded(number, LOUD, name)


def playbooks(count):
    """Texts of so many playbooks, the last of which answers loud alerts; no other answers any."""
    text = (
        "playbook: {name}\ndescription: Answers one rule.\nowner: bench\n"
        "on: {{match: {{rule.id: {name}, severity: {severity}}}}}\n"
        "steps:\n  - id: act\n    use: sink.post\n"
        '    with: {{id: "${{{{ alert.uid }}}}", title: "${{{{ alert.title }}}}"}}\n'
    )
    for name in (*(f"rule-{number}" for number in range(count - 1)), LOUD):
        yield text.format(name=name, severity=SEVERITY)


def rulebook(count, servers, topics):
    """The text of a rulebook of ansible-rulebook with so many rules, the last two of which print a line."""

    def rule(name):
        return {
            "name": name,
            "condition": f'event.rule.id == "{name}" and event.severity == "{SEVERITY}"',
            "action": {"debug": {"msg": f"{name} {{{{ event.id }}}}"}},
        }

    rules = [rule(name) for name in (*(f"rule-{number}" for number in range(count - 2)), MARK, LOUD)]
    source = {"name": "alerts", "topic": {"servers": servers, "topics": topics}}
    return json.dumps([{"name": "bench", "hosts": "all", "sources": [source], "rules": rules}])


@dataclass
class Broker:
    """A Kafka broker with topics of our own, which go when we do."""

    servers: str
    topics: list[str] = field(default_factory=list)

    async def __aenter__(self):
        self.admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        self.producer = AIOKafkaProducer(bootstrap_servers=self.servers)
        await self.admin.start()
        await self.producer.start()
        return self

    async def __aexit__(self, *_):
        await self.producer.stop()
        if self.topics:
            await self.admin.delete_topics(self.topics)
        await self.admin.close()

    async def topic(self, values=()):
        """A new topic that holds these values; returns its name."""
        name = f"bench-{secrets.token_hex(4)}"
        await self.admin.create_topics([NewTopic(name, PARTITIONS, 1)])
        self.topics.append(name)
        while len(await self.producer.partitions_for(name)) < PARTITIONS:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
        await self.send(name, values)
        return name

    async def send(self, topic, values):
        """Add values, the next in the next partition; on return all are there."""
        sent = [await self.producer.send(topic, value, partition=n % PARTITIONS) for n, value in enumerate(values)]
        await asyncio.gather(*sent)

    async def joined(self, group, members):
        """Wait until a group has so many members, each with its share of partitions."""
        async with asyncio.timeout(JOIN_SECONDS):
            while await self._members(group) != members:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)

    async def _members(self, group):
        """How many members a group has; 0 while it shares out."""
        (answer,) = await self.admin.describe_consumer_groups([group])
        ((_, _, state, _, _, members, *_),) = answer.groups
        return len(members) if state == "Stable" else 0

    async def consumed(self, group):
        """How many records a group has committed."""
        offsets = await self.admin.list_consumer_group_offsets(group)
        return sum(max(0, each.offset) for each in offsets.values())

    async def forget(self, group):
        """Drop a group that nobody is in any more."""
        with contextlib.suppress(Exception):
            await self.admin.delete_consumer_groups([group])
