"""`soar suppress`: who holds what back, why and until when, and what `soar explain` says of it."""

import json
from pathlib import Path

import pytest

from .operate_home import ALERTS, Home, as_bytes

HOLD = ("suppress", "add", "--reason", "CHG-7 [red]backup[/red]", "--as", "alice")


def again(name: str, uid: str) -> bytes:
    return as_bytes({**ALERTS[name], "id": uid})


def test_explain_says_which_suppression_held_an_alert_back_by_whom_and_until_when(copy: Home) -> None:
    added = copy.soar(*HOLD, "--match", "rule.id=look", "--for", "4h", "--json").json
    assert added["by"] == "alice"
    copy.work({"held": again("look", "a-9")})
    assert copy.admitted["held"].outcome == "suppressed"
    explained = copy.soar("explain", copy.alert("held")).out
    until = added["until"][:19].replace("T", " ")
    words = f"suppressed by {added['id']} until {until} UTC (alice: CHG-7 [red]backup[/red])"
    assert words in explained
    assert f"open-ticket: suppressed by {added['id']}" in copy.soar("alerts", "show", copy.alert("held")).out
    ended = copy.soar("suppress", "end", added["id"][-8:], "--reason", "done", "--as", "bob", "--json").json
    assert ended["ended_by"] == "bob"
    assert "ended early by bob" in copy.soar("explain", copy.alert("held")).out
    copy.work({"free": again("look", "a-10")})
    assert copy.admitted["free"].outcome == "matched"
    assert json.loads(copy.soar("audit", "verify", "--json").out)["ok"]


def test_the_list_shows_what_is_in_force_and_to_come_and_all_of_it_when_asked(copy: Home) -> None:
    copy.soar(*HOLD, "--match", "severity={at_least: low}", "--match", "rule.id=[a, b]", "--for", "1h")
    later = copy.soar(*HOLD, "--everything", "--playbook", "contain", "--from", "2040-01-01T00:00:00Z", "--for", "2d")
    assert "until 2040-01-03 00:00:00 UTC" in later.out
    shown = copy.soar("suppress", "list").out
    assert "2 suppressions" in shown
    assert "in force" in shown
    assert 'severity={"at_least":"low"} rule.id={"any_of":["a","b"]}' in shown
    assert "to come" in shown
    assert "anything" in shown
    name = copy.soar("suppress", "list", "--json").json[0]["id"]
    copy.soar("suppress", "end", name, "--reason", "x", "--as", "alice")
    assert "1 suppressions" in copy.soar("suppress", "list").out
    assert "over" in copy.soar("suppress", "list", "--all").out
    assert copy.soar("suppress", "end", name, "--reason", "x", "--as", "alice").code == 5
    assert copy.soar("suppress", "end", "nothing", "--reason", "x", "--as", "alice").code == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--match", "rule.id=x"), "either --for or --until"),
        (("--match", "rule.id=x", "--for", "1h", "--until", "2040-01-01T00:00:00Z"), "either --for or --until"),
        (("--match", "rule.id=x", "--for", "31d"), "at most 30d"),
        (("--match", "rule.id=x", "--until", "2000-01-01T00:00:00Z"), "over before it begins"),
        (("--match", "rule.id=x", "--until", "2040-01-01T00:00:00"), "no instant with a zone"),
        (("--match", "rule.id=x", "--for", "long"), "no duration"),
        (("--for", "1h"), "which alerts?"),
        (("--everything", "--match", "rule.id=x", "--for", "1h"), "has no conditions"),
        (("--match", "rule.id", "--for", "1h"), "no FIELD=VALUE"),
        (("--match", "rule.id=x", "--match", "rule.id=y", "--for", "1h"), "stands twice"),
        (("--match", "rule.id={x", "--for", "1h"), "no YAML"),
        (("--match", "rule.ids=x", "--for", "1h"), "did you mean"),
        (("--where", "title ==", "--for", "1h"), "ends too early"),
    ],
)
def test_what_cannot_be_held_back_is_refused_with_the_reason(filled: Home, words: tuple[str, ...], why: str) -> None:
    ended = filled.soar(*HOLD, *words)
    assert ended.code == 2
    assert why in ended.error


def test_there_is_no_for_ever(filled: Home) -> None:
    assert filled.soar(*HOLD, "--match", "rule.id=x", "--forever").code == 2


def test_only_a_named_person_holds_alerts_back(filled: Home, tmp_path: Path) -> None:
    strict = Home(tmp_path)
    document = json.loads(filled.config.read_text()) | {"cli": {"act_as": False}, "journal": {"origin": "x.test/j"}}
    strict.config.write_text(json.dumps(document))
    ended = strict.soar(*HOLD, "--match", "rule.id=x", "--for", "1h")
    assert ended.code == 3


def test_a_playbook_that_is_none_is_refused_with_the_nearest_name(copy: Home) -> None:
    ended = copy.soar(*HOLD, "--everything", "--for", "1h", "--playbook", "contian")
    assert (ended.code, ended.error) == (2, "no playbook 'contian'; did you mean 'contain'?")
    assert copy.soar("suppress", "list", "--json").json == []


def test_a_playbook_in_force_can_be_held_back_though_its_file_is_broken_by_now(copy: Home) -> None:
    (copy.folder / "playbooks" / "contain.yaml").write_text("playbook: [")
    added = copy.soar(*HOLD, "--everything", "--for", "1h", "--playbook", "contain", "--json").json
    assert added["playbooks"] == ["contain"]
    ended = copy.soar(*HOLD, "--everything", "--for", "1h", "--playbook", "never-ran")
    assert "left out with errors:" in ended.error
    assert "contain.yaml" in ended.error
