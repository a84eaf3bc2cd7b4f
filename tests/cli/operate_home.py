"""A home that real runs fill: the engine on SQLite, the starter policies, the lab over HTTP, alerts written by hand."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from soar.cli.app import app
from soar.cli.base import exit_code
from soar.engine.admission import Admitted
from soar.errors import SoarError
from soar.journal.note import Signer
from soar.lab import LabServer
from soar.lab.faults import Fault
from soar.model.alert import Record
from soar.model.approval import Approval
from soar.service import Running, assemble, starters
from soar.service.storage import store_of
from soar.settings import load_settings

TOKEN = "a-token-for-tests"
ORIGIN = "soar.test/journal"
REST_SECONDS = 60.0
LOOK_SECONDS = 0.02

PLAYBOOKS = {
    "open-ticket": """
playbook: open-ticket
description: Open a ticket.
owner: soc
on: {match: {rule.id: [look]}, where: "length(entities.hosts) > `0`", max_age: 1000d}
steps:
  - {id: ticket, use: ticket.create, with: {title: "${{ alert.title }}", severity: "${{ alert.severity }}"}}
  - call: notify
    with: {text: "${{ steps.ticket.result.key }}"}
outputs: {ticket: "${{ steps.ticket.result.key }}"}
""",
    "notify": """
playbook: notify
description: Tell the SOC.
owner: soc
inputs: {type: object, required: [text], properties: {text: {type: string}}}
steps:
  - {id: tell, use: notify.send, with: {channel: soc, text: "${{ vars.text }}"}}
""",
    "contain": """
playbook: contain
description: Cut a host off the network.
owner: soc
on: {match: {rule.id: [contain], severity: {at_least: high}}}
dedupe: {key: ["entities.hosts[0].name"], within: 1h, mode: collect}
steps:
  - id: isolate
    use: host.isolate
    with: {host: "${{ alert.entities.hosts[0].name }}"}
    verify: {use: host.status, until: result.isolated, within: 1m, every: 1s}
    undo: {use: host.release, after: 8h}
outputs: {isolated: "${{ steps.isolate.ok }}"}
""",
    "was-it-you": """
playbook: was-it-you
description: Ask whether it was planned.
owner: soc
on: {match: {rule.id: [ask]}}
steps:
  - id: planned
    ask: Did ${{ alert.entities.users[0].name }} plan this?
    answer: choice
    options: [planned, unplanned]
    groups: [{group: soc-lead}]
  - {id: ticket, use: ticket.create, with: {title: "It was ${{ steps.planned.result.answer }}"}}
""",
}

HOSTILE = "[red]paint[/red] :skull: \x1b]0;owned\x07 \u202eevil"
ALERTS: dict[str, Any] = {
    "look": {"id": "a-1", "rule_id": "look", "title": "Beacon from ws-17", "severity": "high", "hostname": "ws-17"},
    "protected": {"id": "a-2", "rule_id": "contain", "title": "Odd logon", "severity": "high", "hostname": "dc-01"},
    "server": {"id": "a-3", "rule_id": "contain", "title": "Odd service", "severity": "high", "hostname": "db-01"},
    "question": {"id": "a-4", "rule_id": "ask", "title": "New administrator", "severity": "low", "user": "merry"},
    "hostile": {"id": "a-5", "rule_id": "none", "title": HOSTILE, "severity": "low", "hostname": "ws-18"},
    "repeat": {"id": "a-1", "rule_id": "look", "title": "Beacon from ws-17", "severity": "high", "hostname": "ws-17"},
}
NOT_JSON = b"not JSON \x1b[2J \xff"


@dataclass(frozen=True)
class Ended:
    """How a command ended, as `soar.cli.main` would end it."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Home:
    """A folder with a configuration, what was admitted there by name, and the command line on it."""

    folder: Path
    admitted: dict[str, Admitted] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "soar.yaml"

    @property
    def database(self) -> Path:
        return self.folder / "data" / "soar.db"

    def soar(self, *words: str, say: str | None = None) -> Ended:
        """Run a command; `say` is what the person types."""
        ended = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, "--config", str(self.config)], input=say)
        if isinstance(ended.exception, SoarError):
            return Ended(exit_code(ended.exception), ended.stdout, str(ended.exception))
        if ended.exception is not None and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        return Ended(ended.exit_code, ended.stdout, ended.stderr)

    def alert(self, name: str) -> str:
        """The id of the alert of this name."""
        found = self.admitted[name].alert_id
        assert found is not None
        return found

    def run(self, name: str) -> str:
        """The run that answers the alert of this name."""
        return self.admitted[name].run_ids[0]

    def story(self, run_id: str) -> Any:
        """All that `soar runs show` knows of a run."""
        return self.soar("runs", "show", run_id, "--json").json

    def approval(self, name: str) -> Approval:
        """The newest request to people of that run, as the store has it."""

        async def read() -> Approval:
            store = store_of(load_settings(self.config, {}))
            await store.open()
            try:
                return (await store.approvals(run_id=self.run(name)))[0]
            finally:
                await store.close()

        return asyncio.run(read())

    def say(self, word: str, name: str, *words: str) -> Ended:
        """Decide as alice, with `word` and without being asked again, what waits for the alert of this name."""
        approval = self.approval(name)
        return self.soar("approvals", word, approval.id, *words, "--yes", "--digest", approval.digest, "--as", "alice")

    def work(self, records: dict[str, bytes] | None = None, *, faults: dict[str, Fault] | None = None) -> None:
        """Let the service take in records by name and carry its runs to rest, with a lab where `faults` are on."""
        for name, admitted in zip(records or {}, asyncio.run(self._work(records or {}, faults or {})), strict=True):
            self.admitted[name] = admitted

    async def _work(self, records: dict[str, bytes], faults: dict[str, Fault]) -> list[Admitted]:
        lab = LabServer(port=0, log_path=self.folder / "lab.jsonl", token=TOKEN)
        await lab.start()
        write_config(self.folder, lab.url)
        for where, fault in faults.items():
            lab.faults.put(where, fault)
        try:
            async with assemble(load_settings(self.config, {})) as service:
                running = Running(service)
                await running.start()
                admitted = await running.admit([record_of(name, value) for name, value in records.items()])
                async with asyncio.timeout(REST_SECONDS):
                    while {"ready", "running"} & {*(await service.store.counts()).runs}:  # noqa: ASYNC110 - no bell
                        await asyncio.sleep(LOOK_SECONDS)
                await running.stop()
                return admitted
        finally:
            await lab.stop()


def record_of(name: str, value: bytes) -> Record:
    """A record whose coordinates are its name."""
    return Record(source="file", topic=name, offset=0, value=value, received_at=datetime.now(UTC))


def as_bytes(alert: object) -> bytes:
    """An alert as a product sends it."""
    return json.dumps(alert).encode()


def fill(home: Home) -> Home:
    """Let every alert of `ALERTS` be answered as far as it goes, in the store that `database` names, else in a file."""
    (home.folder / "playbooks").mkdir(exist_ok=True)
    (home.folder / "mappings").mkdir(exist_ok=True)
    for name, text in PLAYBOOKS.items():
        (home.folder / "playbooks" / f"{name}.yaml").write_text(text)
    for name, secret in (("journal.key", Signer.generate(ORIGIN).to_text()), ("token", TOKEN)):
        (home.folder / name).write_text(secret)
        (home.folder / name).chmod(0o600)
    home.work({name: as_bytes(alert) for name, alert in ALERTS.items()} | {"letter": NOT_JSON})
    return home


def write_config(folder: Path, url: str) -> None:
    """The configuration of a home whose lab listens at `url`."""
    token = f"secret://file{folder / 'token'}"
    connectors = {
        name: {"use": name, "config": {"base_url": url, "token": token}} for name in ("lab_desk", "lab_edr", "lab_chat")
    }
    document = {
        "playbooks": ["playbooks"],
        "policy": {"path": str(starters("policies"))},
        "journal": {"origin": ORIGIN, "key": "journal.key"},
        "connectors": connectors,
        "bindings": {"ticket.*": "lab_desk", "host.*": "lab_edr", "notify.*": "lab_chat"},
        "people": [
            {"name": "alice", "groups": ["soc-lead"]},
            {"name": "bob", "groups": ["ir-manager"]},
        ],
        "cli": {"act_as": True},
    }
    if (folder / "database").exists():
        document["store"] = {"url": f"secret://file{folder / 'database'}"}
    (folder / "soar.yaml").write_text(json.dumps(document, indent=2))  # JSON is YAML
