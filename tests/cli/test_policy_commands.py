"""`soar policy`: explained, asked again, compared and promoted as a person does it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from soar.cli.app import app
from soar.service import starters

from .operate_home import Ended, Home, fill
from .postgres_home import lodge, schema

POLICIES = starters("policies")


@pytest.fixture(scope="module")
def database(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The filled home on a database. Look, do not touch."""
    with schema(postgres) as dsn:
        yield fill(lodge(tmp_path_factory.mktemp("home"), dsn))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def home(request: pytest.FixtureRequest) -> Home:
    """A filled home on either store."""
    found: Home = request.getfixturevalue("filled" if request.param == "sqlite" else "database")
    return found


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The starters, with dc-01 no domain controller by name any more, and tickets for nobody."""
    folder = Path(shutil.copytree(POLICIES, tmp_path / "changed"))
    change(folder / "data/assets.yaml", "prefixes: [dc-, dc0, dc1]", "prefixes: [dc0, dc1]")
    change(folder / "data/allowlist.yaml", "playbooks: {}", "playbooks: {open-ticket: []}")
    return folder


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def soar(*words: object, say: str | None = None) -> Ended:
    """A command that needs no home."""
    ended = CliRunner().invoke(app, [str(word) for word in words], input=say)
    return Ended(ended.exit_code, ended.stdout, str(ended.exception) if ended.exception else ended.stderr)


def test_a_backtest_lists_every_flip_with_its_run_and_both_reasons(home: Home, changed: Path) -> None:
    ended = home.soar("policy", "backtest", str(changed), "--since", "1d", "--json")
    assert ended.code == 1
    flips = {each["run"]: each for each in ended.json["flips"]}
    denied, ticket = flips[home.run("protected")], flips[home.run("look")]
    assert (denied["kind"], denied["action"], denied["path"]) == (
        "deny->allow",
        "lab_edr.isolate_host dc-01",
        "isolate",
    )
    assert [reason["code"] for reason in denied["old"]["reasons"]] == ["protected.asset"]
    assert (ticket["kind"], ticket["controls"]) == ("allow->deny", ["allowlist"])
    assert ticket["new"]["reasons"][0]["msg"].startswith("playbook open-ticket may not use")
    summary = ended.json["summary"]
    assert (summary["flipped"], summary["flips"]) == (2, {"deny->allow": 1, "allow->deny": 1})
    assert summary["undecidable"] == []
    assert {each["control"] for each in summary["controls"]} == {"protected", "allowlist"}
    assert summary["decided"] == 4


@pytest.mark.parametrize(("which", "code"), [("any", 1), ("looser", 1), ("stricter", 1), ("none", 0)])
def test_the_exit_code_says_whether_such_a_flip_was_found(filled: Home, changed: Path, which: str, code: int) -> None:
    ended = filled.soar("policy", "backtest", str(changed), "--fail-on", which)
    assert ended.code == code
    assert "2 would differ" in ended.out


def test_a_stricter_policy_is_not_looser(filled: Home, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(POLICIES, tmp_path / "stricter"))
    change(folder / "data/allowlist.yaml", "playbooks: {}", "playbooks: {open-ticket: []}")
    assert filled.soar("policy", "backtest", str(folder), "--fail-on", "looser").code == 0
    assert filled.soar("policy", "backtest", str(folder), "--fail-on", "stricter").code == 1


def test_the_policies_that_decided_flip_nothing(filled: Home) -> None:
    ended = filled.soar("policy", "backtest", str(POLICIES))
    assert ended.code == 0
    assert "none would differ" in ended.out


def test_only_what_was_decided_since_is_asked(filled: Home, changed: Path) -> None:
    ended = filled.soar("policy", "backtest", str(changed), "--since", "0s", "--json")
    assert (ended.code, ended.json["summary"]["decided"]) == (0, 0)
    assert filled.soar("policy", "backtest", str(changed), "--since", "2026-01-01", "--brief").code == 1
    wrong = filled.soar("policy", "backtest", str(changed), "--since", "yesterday")
    assert (wrong.code, "write 30d, 12h or 2026-01-31" in wrong.error) == (2, True)


def test_what_was_erased_is_counted_and_named(copy: Home, changed: Path) -> None:
    erased = copy.soar("audit", "erase", "--subject", "dc-01", "--reason", "asked", "--as", "alice", "--yes")
    assert erased.code == 0, erased.error
    found = copy.soar("policy", "backtest", str(changed), "--json").json["summary"]
    assert (found["decided"], found["flipped"]) == (3, 1)
    (lost,) = found["undecidable"]
    assert (lost["why"], lost["count"]) == ("its payload was erased", 1)
    shown = copy.soar("policy", "backtest", str(changed))
    assert f"1 could not be decided again: its payload was erased; the first is entry {lost['first']}" in shown.out


def test_a_broken_candidate_is_refused_with_its_place(filled: Home, changed: Path) -> None:
    change(changed / "data/limits.yaml", "target: {hour: 5", "target: {hour: five")
    ended = filled.soar("policy", "backtest", str(changed))
    assert ended.code == 2
    assert "limits.yaml:2:16: 'target.hour' must be a whole number" in ended.error


def test_a_denial_is_explained_by_rule_data_and_what_would_change_it(home: Home) -> None:
    (found,) = home.soar("policy", "explain", home.run("protected"), "--json").json
    assert (found["effect"], found["path"]) == ("deny", "isolate")
    (reason,) = found["reasons"]
    assert reason["rule"].endswith("controls/protected.rego:10:1")
    prefix = reason["data"][-1]
    assert prefix["value"] == "dc-"
    assert prefix["place"].endswith("data/assets.yaml:9:16")
    assert {"path": ["action", "risk"], "words": "none", "effect": "allow"} in reason["otherwise"]
    words = home.soar("policy", "explain", found["decision"]).out
    assert "denied" in words
    assert "host dc-01 is protected: domain controllers (data/assets.yaml)" in words
    assert "data/assets.yaml:9:16 protected.domain controllers.prefixes[0]" in words


def test_what_waits_for_people_and_what_was_allowed_are_explained(filled: Home) -> None:
    asked = filled.soar("policy", "explain", filled.run("server"))
    assert "allowed once people agree: 1 of soc-lead" in asked.out
    assert "tiers.server" in asked.out
    allowed = filled.soar("policy", "explain", filled.run("look"), "--step", "ticket").out
    assert "no control objects" in allowed
    assert "halted true: deny" in allowed


def test_other_policies_than_those_that_decided_are_named(filled: Home, changed: Path) -> None:
    (found,) = filled.soar(
        "policy", "explain", filled.run("protected"), "--policies", str(changed), "--json"
    ).json  # fmt: skip
    assert "which says allow" in found["note"]
    assert "rule" not in found["reasons"][0]


def test_what_was_never_decided_is_not_explained(filled: Home) -> None:
    ended = filled.soar("policy", "explain", filled.run("look"), "--step", "nowhere")
    assert (ended.code, "is in the journal" in ended.error) == (2, True)
    assert filled.soar("policy", "explain", "decision-x").code == 2


def test_a_question_is_asked_as_the_gate_asks_it(tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    path.write_text(soar("policy", "eval", "--example").out)
    first = soar("policy", "eval", path, "--policies", POLICIES, "--json")
    assert (first.code, first.json["effect"]) == (0, "deny")
    assert [each["code"] for each in first.json["reasons"]] == ["freeze.active"]
    document = json.loads(path.read_text())
    document["time"]["freeze"] = []
    document["action"]["targets"] = [{"type": "host", "id": "DC-01.corp.example"}]
    second = soar("policy", "eval", "-", "--policies", POLICIES, say=json.dumps(document))
    assert "DC-01.corp.example is protected" in second.out


def test_a_wrong_question_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    path.write_text(soar("policy", "eval", "--example").out.replace('"severity"', '"severty"'))
    ended = soar("policy", "eval", path, "--policies", POLICIES)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "severty" in text)
    assert f"{path}:{line}:5: unknown key 'severty'; did you mean 'severity'?" in ended.error
    assert "name a file" in soar("policy", "eval").error


def test_a_difference_is_shown_with_its_place_and_ends_with_exit_code_1(changed: Path) -> None:
    same = soar("policy", "diff", POLICIES, POLICIES)
    assert (same.code, "0 of 2000 generated questions" in same.out) == (0, True)
    ended = soar("policy", "diff", POLICIES, changed)
    assert ended.code == 1
    assert 'removed assets.protected.domain controllers.prefixes: "dc-"' in ended.out
    found = soar("policy", "diff", POLICIES, changed, "--json").json
    assert {each["word"] for each in found["data"]} == {"removed", "added"}
    assert found["asked"] == 2000


def test_coverage_wants_what_it_is_told_to_want() -> None:
    assert soar("policy", "coverage", POLICIES).code == 0
    more = soar("policy", "coverage", POLICIES, "--at-least", "100", "--json")
    assert (more.code, more.json["enough"], more.json["passed"]) == (1, False, True)
    assert [each["missed"] for each in more.json["files"] if each["percent"] < 100]


def own_policies(home: Home, folder: Path) -> None:
    """Let the home have policies of its own."""
    document: dict[str, Any] = yaml.safe_load(home.config.read_text())
    document["policy"] = {"path": str(folder)}
    home.config.write_text(json.dumps(document))


def test_what_is_fit_is_promoted_and_journalled(copy: Home, changed: Path) -> None:
    own_policies(copy, changed)
    ended = copy.soar("policy", "promote", "--reason", "tried", "--as", "alice", "--json")
    assert (ended.code, ended.json["by"], ended.json["was"]) == (0, "alice", None)
    (told,) = copy.soar("audit", "show", "--type", "policy.promoted", "--json").json
    assert (told["subject"], told["actor"]) == (ended.json["promoted"], "person:alice")


def test_what_is_not_fit_is_not_promoted(copy: Home, changed: Path) -> None:
    own_policies(copy, changed)
    (changed / "more_test.rego").write_text("package soar.more_test\n\ntest_no if 1 == 2\n")
    ended = copy.soar("policy", "promote", "--reason", "tried", "--as", "alice")
    assert ended.code == 1
    assert "more_test.rego:3:1: soar.more_test.test_no fails; run: soar policy test" in ended.error
    assert "the revision in force stays" in ended.out
    assert copy.soar("audit", "show", "--type", "policy.promoted", "--json").json == []


def test_without_a_candidate_there_is_nothing_to_show(filled: Home) -> None:
    assert "policy.shadow is not set" in filled.soar("policy", "shadow").out


def test_a_running_service_takes_a_changed_bundle_by_signal_and_refuses_a_broken_one(
    copy: Home, changed: Path, tmp_path: Path
) -> None:
    """The real program: SIGHUP neither ends it nor lets a broken bundle in."""
    own_policies(copy, changed)
    document = yaml.safe_load(copy.config.read_text())
    copy.config.write_text(json.dumps({**document, "web": {"port": 0}}))
    log = tmp_path / "log"
    with log.open("w") as written:
        command = [sys.executable, "-m", "soar", "run", "--quiet", "--config", str(copy.config)]
        running = subprocess.Popen(
            command, stdout=written, stderr=written, env={**os.environ, "SOAR_LOG__STYLE": "json"}
        )
    try:
        until(lambda: loaded(copy) == 2)  # that of the fixture, and this one's
        change(changed / "data/limits.yaml", "target: {hour: 5", "target: {hour: five")
        running.send_signal(signal.SIGHUP)
        until(lambda: "policy.not_promoted" in log.read_text())
        assert "limits.yaml:2:16: 'target.hour' must be a whole number" in log.read_text()
        change(changed / "data/limits.yaml", "target: {hour: five", "target: {hour: 4")
        running.send_signal(signal.SIGHUP)
        until(lambda: loaded(copy) == 3)
    finally:
        running.terminate()
        code = running.wait(timeout=60)
    assert code == 0, log.read_text()
    last = copy.soar("audit", "show", "--type", "policy.loaded", "--limit", "1", "--json").json[0]
    assert last["data"]["by"] == "signal"


def loaded(home: Home) -> int:
    return len(home.soar("audit", "show", "--type", "policy.loaded", "--json").json)


def until(holds: Any) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
