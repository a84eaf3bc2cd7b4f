"""`soar audit query`: who, what, when, under which policy; in every form that others read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from soar.cli.query import _harmless, _span
from soar.errors import ConfigError
from soar.journal.ocsf import remediation
from soar.model.base import from_rfc3339

from .operate_home import Home

NOW = from_rfc3339("2026-03-02T12:00:00Z")


def rows(home: Home, *words: str) -> Any:
    said = home.soar("audit", "query", *words, "--format", "json")
    assert said.code == 0, said.error
    return said.json


def test_every_entry_is_found_where_nothing_is_asked(filled: Home) -> None:
    assert len(rows(filled)) == filled.soar("audit", "status", "--json").json["size"]
    assert [each["index"] for each in rows(filled, "--limit", "3")] == [each["index"] for each in rows(filled)][-3:]


def test_an_action_is_found_with_the_policy_that_let_it_go(filled: Home) -> None:
    (decided,) = rows(filled, "--type", "policy.decided", "--run", filled.run("look"))
    (outcome,) = rows(filled, "--what", "TICKET", "--type", "action.outcome", "--run", filled.run("look"))
    assert outcome["action"] == "lab_desk.create_ticket"
    assert outcome["policy"] == decided["data"]["revision"]
    assert outcome["result"] == "succeeded"
    found = rows(filled, "--policy", decided["policy"][:12], "--run", filled.run("look"))
    assert {"policy.decided", "action.intent", "action.outcome"} <= {each["type"] for each in found}
    assert rows(filled, "--policy", "no-such-revision") == []


def test_a_person_is_found_by_name(copy: Home) -> None:
    copy.say("deny", "server", "--reason", "not now")
    assert {each["who"] for each in rows(copy, "--who", "alice")} == {"person:alice"}
    assert rows(copy, "--who", "ali") == []


def test_time_is_asked_for_by_days_moments_and_spans(filled: Home) -> None:
    first = rows(filled)[0]["at"]
    assert rows(filled, "--when", first[:10])
    assert len(rows(filled, "--when", f"{first}..{first}")) >= 1
    assert rows(filled, "--when", "1999-01-01..1999-12-31") == []
    assert _span("2026-01-01..2026-01-31", NOW) == ("2026-01-01T00:00:00.000000Z", "2026-02-01T00:00:00.000000Z")
    assert _span("24h", NOW)[0] == "2026-03-01T12:00:00.000000Z"
    assert _span("2026-01-01..", NOW)[1] > "2999"


@pytest.mark.parametrize("when", ["yesterday", "2026-13-01", "..x", "24", ""])
def test_a_time_that_is_none_is_said(when: str) -> None:
    with pytest.raises(ConfigError, match="--when"):
        _span(when, NOW)


def test_a_spreadsheet_gets_no_formula(filled: Home) -> None:
    said = filled.soar("audit", "query", "--format", "csv")
    table = list(csv.DictReader(io.StringIO(said.out)))
    assert len(table) == len(rows(filled))
    assert table[0]["type"] == "service.started"
    for cell in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"):
        assert _harmless(cell) == f"'{cell}"
    assert _harmless("a=1") == "a=1"


def test_a_table_is_for_people(filled: Home) -> None:
    assert "run.finished" in filled.soar("audit", "query", "--type", "run.finished").out


def test_outcomes_are_remediation_activity(filled: Home) -> None:
    events = [json.loads(line) for line in filled.soar("audit", "query", "--format", "ocsf").out.splitlines()]
    assert len(events) == len(rows(filled, "--type", "action.outcome"))
    for event in events:
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
        assert event["command_uid"]
        assert event["unmapped"]["policy_revision"]


def of(kind: str, verb: str, state: str = "succeeded") -> dict[str, Any]:
    leaf = {"id": "e", "at": "2026-01-01T00:00:00.000000Z", "actor": "worker:a", "run": "r", "data": {}}
    leaf["data"] = {"action": f"x.{verb}", "state": state, "attempt": 1}
    return remediation(leaf, index=7, targets=[{"type": kind, "id": "it"}], command="key", policy="p")


@pytest.mark.parametrize(
    ("kind", "verb", "class_name", "type_uid"),
    [
        ("host", "isolate_host", "remediation_activity", 700101),
        ("user", "disable_account", "remediation_activity", 700102),
        ("host", "release_host", "remediation_activity", 700103),
        ("sha256", "block_ioc", "file_remediation_activity", 700201),
        ("file", "delete_file", "file_remediation_activity", 700202),
        ("process", "kill_process", "process_remediation_activity", 700302),
        ("ip", "unblock_ip", "network_remediation_activity", 700403),
        ("ticket", "close_ticket", "remediation_activity", 700199),
    ],
)
def test_classes_and_what_they_require_are_those_of_the_schema(
    shared_data: Path, kind: str, verb: str, class_name: str, type_uid: int
) -> None:
    event = of(kind, verb)
    assert event["type_uid"] == type_uid
    folder = shared_data / "ocsf" / "events" / "remediation"
    for name in ("remediation_activity", class_name):
        attributes = json.loads((folder / f"{name}.json").read_text())["attributes"]
        required = {key for key, each in attributes.items() if each.get("requirement") == "required"}
        assert required <= event.keys()
    activities = json.loads((folder / "remediation_activity.json").read_text())["attributes"]["activity_id"]["enum"]
    if event["activity_id"] != 99:
        assert activities[str(event["activity_id"])]["caption"] == event["activity_name"]


@pytest.mark.parametrize(("state", "status"), [("succeeded", 1), ("failed", 2), ("unknown", 0)])
def test_a_status_is_what_is_known(state: str, status: int) -> None:
    assert of("host", "isolate", state)["status_id"] == status
