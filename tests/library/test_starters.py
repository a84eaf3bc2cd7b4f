"""The playbooks that ship: clean, neutral of products, short, and answering real alerts."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from soar.ingest.mapping import load_mappings
from soar.ingest.normalise import Normaliser
from soar.library.blocks import walk
from soar.library.folder import load_folders
from soar.library.index import TriggerIndex
from soar.model.alert import Alert, AlertDocument, Record, Severity
from soar.model.clock import SystemClock, UlidSource
from soar.model.playbook import ActionStep

ROOT = Path(__file__).parents[2]
WANTED = {
    "phishing-report",
    "ransomware-host",
    "impossible-travel",
    "brute-force",
    "malware-hash",
    "leaked-cloud-key",
    "suspicious-ip",
    "noisy-rule-triage",
}
EXAMPLES = {
    "phishing-report": {"source": "okta", "title": "Phishing reported"},
    "ransomware-host": {
        "title": "Ransomware behaviour",
        "severity": "critical",
        "entities": {"hosts": [{"name": "ws-1"}]},
    },
    "impossible-travel": {"source": "entra-id", "title": "Atypical travel", "entities": {"users": [{"name": "ann"}]}},
    "brute-force": {"title": "SSH brute force"},
    "malware-hash": {"observables": {"sha256": ["0" * 64]}},
    "leaked-cloud-key": {"source": "guardduty", "entities": {"resources": [{"id": "AKIA", "type": "AccessKey"}]}},
    "suspicious-ip": {"source": "suricata", "observables": {"ip": ["203.0.113.66"]}},
    "suspicious-process": {"source": "falco", "title": "Mimikatz", "entities": {"hosts": [{"name": "ws-1"}]}},
    "privilege-granted": {"rule": {"id": "grantUserRoles"}},
    "noisy-rule-triage": {"source": "grafana", "severity_score": 10, "severity": "informational"},
}


@pytest.fixture(scope="module")
def library(everything):
    return load_folders([ROOT / "playbooks"], everything)


def example(**fields):
    now = datetime.now(UTC)
    plain = {"id": "a", "uid": "u", "source": "other", "product": "p", "title": "t", "severity_score": 70}
    alert = Alert(**{**plain, "severity": Severity.HIGH, "time": now, "received_at": now, **fields})
    return alert.model_dump(mode="json")


def test_all_of_them_lint_clean(library):
    assert [str(error) for error in library.errors] == []
    assert set(library.playbooks) >= WANTED | {"close-ticket", "notify-soc"}


def test_they_use_capabilities_only(library, everything):
    for playbook in library.playbooks.values():
        used = [step.use for step, _ in walk(playbook) if isinstance(step, ActionStep)]
        assert set(used) <= set(everything.capabilities)


def test_each_reads_in_a_minute():
    for path in (ROOT / "playbooks").glob("*.yaml"):
        lines = path.read_text().splitlines()
        assert lines[0].startswith("# "), f"{path.name} says nothing before it starts"
        assert len(lines) <= 80, f"{path.name} is long"


def test_they_show_every_form_and_what_makes_them_safe(library):
    steps = [step for playbook in library.playbooks.values() for step, _ in walk(playbook)]
    assert {step.kind for step in steps} >= {"use", "if", "switch", "parallel", "foreach", "wait", "ask", "call", "set"}
    actions = [step for step in steps if isinstance(step, ActionStep)]
    assert any(step.approval for step in actions)
    assert any(step.verify for step in actions)
    assert any(step.undo and step.undo.after for step in actions)
    assert any(isinstance(step.on_error, tuple) for step in steps)


def test_what_takes_something_away_can_be_taken_back(library):
    """Every containment names its undo; deleting mail has none, so it asks people."""
    for playbook in library.playbooks.values():
        for step, _ in walk(playbook):
            if isinstance(step, ActionStep) and step.use in {"host.isolate", "account.disable", "ip.block"}:
                assert step.undo, f"{playbook.id}: {step.use}"
            if isinstance(step, ActionStep) and step.use == "email.delete":
                assert step.approval


def test_sources_are_names_of_mappings(library):
    files = (ROOT / "soar" / "ingest" / "mappings").glob("*.yaml")
    known = {re.search(r"^name: (\S+)", file.read_text(), re.MULTILINE)[1] for file in files}
    for playbook in library.playbooks.values():
        match = playbook.on.match.get("source") if playbook.on else None
        assert set(match.any_of if match else ()) <= known, playbook.id


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_answers_an_alert_of_its_kind(library, name):
    found = TriggerIndex(library.playbooks.values()).match(example(**EXAMPLES[name]))
    assert name in [playbook.id for playbook in found]


def test_every_trigger_has_an_example(library):
    assert {name for name, playbook in library.playbooks.items() if playbook.on} == set(EXAMPLES)


def test_attack_and_react_labels_exist(library, shared_data):
    react = json.loads((shared_data / "react" / "react-stix.json").read_text())
    known = {ref.get("external_id") for thing in react["objects"] for ref in thing.get("external_references", [])}
    for playbook in library.playbooks.values():
        assert set(playbook.labels.get("react", ())) <= known, playbook.id
        assert all(re.fullmatch(r"T\d{4}(\.\d{3})?", label) for label in playbook.labels.get("attack", ()))


def test_most_real_alerts_are_answered(library, shared_data):
    """Two of three sample alerts of real products start something, so that a first look shows life."""
    normaliser = Normaliser(load_mappings([]), ids=UlidSource(), clock=SystemClock())
    index = TriggerIndex(library.playbooks.values())
    alerts = []
    for path in sorted((shared_data / "alerts").rglob("*.json")):
        value, now = path.read_bytes(), datetime.now(UTC)
        record = Record(source="file", topic=path.name, offset=0, value=value, received_at=now)
        alerts += [one for one in normaliser.normalise(record) if isinstance(one, AlertDocument)]
    answered = [index.match(alert.body) for alert in alerts]
    assert sum(map(bool, answered)) >= 2 * len(alerts) / 3
    assert {playbook.id for found in answered for playbook in found} >= WANTED - {"ransomware-host"}
