"""The authors' and operators' commands on real files: each fault is named with its place, and nothing else stops."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from soar.errors import PlaybookError
from soar.lab import LabServer
from soar.located import load

from .study_home import Home, make_home, soar

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    "playbook lint",
    "playbook list",
    "playbook graph",
    "playbook schema",
    "policy test",
    "policy lint",
    "policy export",
    "connectors list",
    "connectors show",
    "connectors test",
    "mapping list",
    "mapping test",
    "audit verify",
    "audit status",
    "audit show",
    "config schema",
    "config check",
    "doctor",
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    make_home(tmp_path / "home")
    return Home(tmp_path / "home")


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Path]:
    """A folder without a soar.yaml, to stand in."""
    before = Path.cwd()
    folder = tmp_path / "bare"
    folder.mkdir()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_gives_an_example(command: str) -> None:
    said = soar(*command.split(), "--help")
    assert said.code == 0
    assert f"Example: soar {command}" in " ".join(said.out.replace("│", " ").split())


# playbooks


def write_playbook(folder: Path, name: str = "odd.yaml") -> Path:
    path = folder / name
    path.write_text(
        "playbook: odd\ndescription: x\nowner: soc\nsteps:\n"
        "  - use: ticket.crate\n    with: {title: '${{ alert.titel }}'}\n"
        "  - use: notify.send\n    with: {chanel: soc, text: hi}\n"
    )
    return path


def test_lint_is_content_with_the_starters(home: Home) -> None:
    said = home.soar("playbook", "lint")
    assert said.code == 0, said.err
    assert f"{len(list((home.folder / 'playbooks').iterdir()))} files, 0 errors" in said.out


def test_lint_names_every_error_of_a_file_with_its_place(home: Home) -> None:
    path = write_playbook(home.folder / "playbooks")
    said = home.soar("playbook", "lint")
    assert said.code == 1
    assert f"{path}:5:10: no action 'ticket.crate'; did you mean 'ticket.create'?" in said.err
    assert f"{path}:8:12: " in said.err
    assert "'chanel'" in said.err
    assert "13 files, " in said.out
    assert len(home.soar("playbook", "list", "--json").json["playbooks"]) == 12, "the others are in force"


def test_lint_of_one_file_may_call_its_neighbours(home: Home) -> None:
    file = home.folder / "playbooks" / "phishing-report.yaml"
    assert "call: notify-soc" in file.read_text()
    assert home.soar("playbook", "lint", file).code == 0
    said = home.soar("playbook", "lint", write_playbook(home.folder), "--json")
    assert said.code == 1
    assert said.json["files"] == 1
    assert {fault["line"] for fault in said.json["errors"]} >= {5, 8}


def test_lint_without_a_configuration_checks_all_but_actions(bare: Path) -> None:
    path = write_playbook(bare)
    path.write_text(path.read_text() + "  - if: alert.(title\n    then: [{stop: succeeded}]\n")
    said = soar("playbook", "lint", path.name)
    assert said.code == 1
    assert "odd.yaml:9:9: " in said.err
    assert "ticket.crate" not in said.err
    assert "actions were not checked" in said.err
    assert soar("playbook", "lint", ROOT / "playbooks").code == 0


def test_a_wrong_configuration_does_not_stop_an_author(bare: Path) -> None:
    (bare / "soar.yaml").write_text("web: {prt: 1}\n")
    said = soar("playbook", "lint", write_playbook(bare))
    assert "soar.yaml:1:7: unknown key 'prt'; did you mean 'port'?" in said.err
    assert "odd.yaml:6:19: " in said.err
    assert "actions were not checked" in said.err
    assert soar("mapping", "list").code == 0
    assert soar("playbook", "lint", "--config", "soar.yaml").code == 2, "a configuration that was named must be right"


def test_connectors_that_cannot_be_built_leave_lint_without_actions(home: Home) -> None:
    home.change(connectors={"desk": {"use": "lab_dsk"}}, bindings={})
    said = home.soar("playbook", "lint")
    assert said.code == 0
    assert "did you mean 'lab_desk'?" in said.err


def test_lint_says_which_file_cannot_be_read(home: Home) -> None:
    said = home.soar("playbook", "lint", home.folder / "none.yaml")
    assert said.code == 1
    assert "none.yaml: cannot be read" in said.err


def test_graph_draws_by_id_or_file(home: Home) -> None:
    assert home.soar("playbook", "graph", "ransomware-host").out.startswith("flowchart TD")
    file = home.folder / "playbooks" / "ransomware-host.yaml"
    assert soar("playbook", "graph", file, "--svg").out.startswith("<svg ")
    picture = home.folder / "out.svg"
    assert home.soar("playbook", "graph", "ransomware-host", "-o", picture).code == 0
    assert picture.read_text().startswith("<svg ")
    said = home.soar("playbook", "graph", "ransomware-hosts")
    assert said.code == 2
    assert "did you mean 'ransomware-host'?" in said.err


def test_the_schema_fits_every_starter_and_refuses_what_the_parser_refuses() -> None:
    schema = soar("playbook", "schema").json
    check = jsonschema.Draft202012Validator(schema)
    check.check_schema(schema)
    for file in (ROOT / "playbooks").glob("*.yaml"):
        document = load(file.read_text(), file.name, PlaybookError).value
        assert not list(check.iter_errors(document)), file.name
    good = {"playbook": "p", "description": "d", "owner": "o", "steps": [{"wait": "10m"}]}
    assert check.is_valid(good)
    threshold = {"key": "rule.id", "within": "1h", "mode": {"threshold": {"count": 3}}}
    assert check.is_valid({**good, "dedupe": threshold, "on": {"match": {"source": "okta", "severity": ["high"]}}})
    for bad in ({"wait": 10}, {"wait": {"for": "1h", "until": "x"}}, {"use": "a.b", "wth": {}}, {"then": []}, {}):
        assert not check.is_valid({**good, "steps": [bad]}), bad


# policies


def test_policy_tests_pass_with_coverage(home: Home) -> None:
    report = home.soar("policy", "test", "--json").json
    assert report["passed"]
    assert report["percent"] > 95
    assert "0 failed" in home.soar("policy", "test").out


def test_a_failed_policy_test_is_named_with_its_place(home: Home) -> None:
    file = home.folder / "policies" / "mine_test.rego"
    file.write_text("package soar.tests.mine\n\ntest_no if 1 == 2\n")
    said = home.soar("policy", "test")
    assert said.code == 1
    assert f"FAILED {file}:3:1: soar.tests.mine.test_no" in said.out


def test_policy_tests_run_the_same_on_opa(opa_binary: Path, home: Home) -> None:
    ours = home.soar("policy", "test", "--json").json
    theirs = home.soar("policy", "test", "--engine", "opa", "--opa", opa_binary, "--json").json
    assert theirs["passed"]
    assert {(each["name"], each["outcome"]) for each in theirs["results"]} == {
        (each["name"], each["outcome"]) for each in ours["results"]
    }
    assert theirs["percent"] > 95
    (home.folder / "policies" / "mine_test.rego").write_text("package soar.tests.mine\n\ntest_no if 1 == 2\n")
    said = home.soar("policy", "test", "--engine", "opa", "--opa", opa_binary)
    assert said.code == 1
    assert "mine_test.rego:3:1: soar.tests.mine.test_no" in said.out


def test_no_opa_program_is_said_so(home: Home) -> None:
    said = home.soar("policy", "test", "--engine", "opa", "--opa", "opa-that-nobody-has")
    assert said.code == 2
    assert "name it with --opa" in said.err


def test_a_malformed_policy_is_named_with_its_place(home: Home) -> None:
    assert "revision" in home.soar("policy", "lint").out
    file = home.folder / "policies" / "main.rego"
    file.write_text(file.read_text() + "\nbroken if {\n")
    said = home.soar("policy", "lint")
    assert said.code == 1
    assert f"{file}:" in said.err
    assert home.soar("policy", "lint", "--json").json["errors"][0]["file"] == str(file)
    assert home.soar("policy", "test").code == 2
    assert home.soar("playbook", "lint").code == 0, "nothing else stops"


# connectors


def test_connectors_are_listed_as_configured_and_as_installed(home: Home) -> None:
    configured = home.soar("connectors", "list", "--json").json
    assert {each["name"] for each in configured} >= {"lab_desk", "lab_edr"}
    assert all(len(each["digest"]) == 64 and each["actions"] for each in configured)
    assert "jira" in home.soar("connectors", "list", "--available").out
    home.change(connectors={"desk": {"use": "lab_dsk"}, "edr": {"use": "lab_edr"}})
    said = home.soar("connectors", "list")
    assert said.code == 1
    assert "edr" in said.out
    assert f"{home.config}:" in said.err
    assert "did you mean 'lab_desk'?" in said.err


def test_show_tells_what_an_action_can_do(home: Home) -> None:
    said = home.soar("connectors", "show", "lab_edr")
    assert "isolate_host host.isolate" in said.out
    assert "risk contain, undo release_host" in said.out
    assert "params host*" in said.out
    specs = soar("connectors", "show", "jira", "--config", home.config, "--json").json["actions"]
    assert {"verb", "effect", "risk", "params_schema"} <= specs[0].keys()
    missing = home.soar("connectors", "show", "lab_edrr")
    assert missing.code == 2
    assert "did you mean 'lab_edr'?" in missing.err


async def test_connectors_are_asked_whether_they_know_us(tmp_path: Path) -> None:
    lab = LabServer(port=0, log_path=tmp_path / "lab.jsonl", token="t0ken")
    await lab.start()
    try:
        make_home(tmp_path / "home", lab_url=lab.url, lab_token="t0ken")
        home = Home(tmp_path / "home")
        port = int(lab.url.rpartition(":")[2])
        home.change(web={"port": 0}, lab={"port": port})
        good = await asyncio.to_thread(home.soar, "connectors", "test", "--json")
        assert good.code == 0
        assert all(each["ok"] for each in good.json)
        well = await asyncio.to_thread(home.soar, "doctor", "--json")
        assert {line["state"] for line in well.json if line["check"] == "connectors"} == {"ok"}
        assert f"lab: running at 127.0.0.1:{port}" in [line["message"] for line in well.json]
        (home.folder / "keys" / "lab-token").write_text("another")
        refused = await asyncio.to_thread(home.soar, "connectors", "test", "lab_desk", "--json")
        assert refused.code == 4
        assert [each["code"] for each in refused.json] == ["authentication"]
    finally:
        await lab.stop()
    unknown = await asyncio.to_thread(home.soar, "connectors", "test", "lab_dsk")
    assert unknown.code == 2
    assert "did you mean 'lab_desk'?" in unknown.err


# mappings

MAPPING = """\
name: acme
product: Acme
shapes: [{keys: [acme_id]}]
uid: acme_id
title: title
severity: {from: sev, words: {bad: high}}
entities: {hosts: [{name: host}]}
"""


def test_a_mapping_shows_which_expression_filled_each_field(bare: Path) -> None:
    (bare / "acme.yaml").write_text(MAPPING)
    (bare / "one.json").write_text(json.dumps({"acme_id": "7", "title": "T\x1b[31m", "sev": "bad"}))
    said = soar("mapping", "test", "acme.yaml", "one.json", "--json")
    assert said.code == 0
    (element,) = said.json[0]["elements"]
    assert element["filled"] == {"severity": "sev", "title": "title", "uid": "acme_id"}
    assert element["alert"]["severity"] == "high"
    shown = soar("mapping", "test", "acme.yaml", "one.json").out
    assert "hosts.name is empty: none of host gives a value" in shown
    assert "\x1b" not in shown


def test_samples_alone_find_their_mapping_by_shape(bare: Path) -> None:
    (bare / "two.ndjson").write_text('{"title": "a", "severity": "low"}\n\nno json\n')
    said = soar("mapping", "test", "-", "two.ndjson")
    assert said.code == 1, "one line is a dead letter"
    assert "two.ndjson:1: mapping generic, by its shape" in said.out
    assert "dead letter not_json" in said.out
    assert soar("mapping", "test", "two.ndjson", "--mapping", "gneric").code == 2
    named = soar("mapping", "test", "two.ndjson", "--mapping", "wazuh")
    assert "mapping wazuh as named; by shape it would be generic" in named.out
    assert "there is no sample" in soar("mapping", "test", "-").err
    assert "none.json: cannot be read" in soar("mapping", "test", "none.json").err


def test_a_malformed_mapping_is_named_with_its_place_and_the_others_stay(home: Home) -> None:
    path = home.folder / "mappings" / "acme.yaml"
    path.write_text(MAPPING.replace("title: title", "titel: title").replace("uid: acme_id", "uid: acme.[id"))
    said = soar("mapping", "test", path, "one.json")
    assert said.code == 2
    assert f"{path}:4:6: " in said.err
    assert f"{path}:5:1: unknown key 'titel'; did you mean 'title'?" in said.err
    listed = home.soar("mapping", "list")
    assert listed.code == 0
    assert "wazuh" in listed.out
    assert f"left out: {path}:" in listed.err
    path.write_text(MAPPING)
    rows = {row["name"]: row["from"] for row in home.soar("mapping", "list", "--json").json}
    assert rows["acme"] == "you"
    assert rows["wazuh"] == "built in"


# configuration


def test_a_malformed_configuration_is_named_with_its_place(home: Home) -> None:
    assert home.soar("config", "check").code == 0
    assert json.loads(soar("config", "schema").out)["properties"]["store"]
    home.config.write_text("web: {prt: 1, port: many}\n")
    said = home.soar("config", "check")
    assert said.code == 1
    assert f"{home.config}:1:7: unknown key 'prt'; did you mean 'port'?" in said.err
    assert f"{home.config}:1:21: 'web.port'" in said.err
    home.config.write_text("connectors:\n  desk: {use: jira, config: {base_ulr: x}}\n")
    assert f"{home.config}:2:" in home.soar("config", "check").err
    errors = home.soar("config", "check", "--json").json["errors"]
    assert errors


def test_the_program_ends_with_a_sentence_and_a_code(home: Home) -> None:
    """The installed command, as a person or a script meets it."""
    (home.folder / "keys" / "journal.key").unlink()
    command = [sys.executable, "-m", "soar", "audit", "verify", "--config", str(home.config)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "journal.key does not exist" in ended.stderr
    assert "Traceback" not in ended.stderr
