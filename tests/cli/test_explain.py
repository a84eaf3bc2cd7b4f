"""`soar explain`: every alert has one outcome, and a sentence says why it is that one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .operate_home import Home, as_bytes, write_config

HEAD = "description: d\nowner: soc\n"
PLAYBOOKS = {
    "first": "on: {match: {rule.id: first}}\ndedupe: {key: title, within: 30m}\nsteps: [{set: {a: 1}}]\n",
    "collect": "on: {match: {rule.id: collect}}\ndedupe: {key: title, within: 1h, mode: collect}\n"
    "steps: [{set: {a: 1}}]\n",
    "threshold": "on: {match: {rule.id: threshold}}\n"
    "dedupe: {key: title, within: 10m, mode: {threshold: {count: 3}}}\nsteps: [{set: {a: 1}}]\n",
    "late": "on: {match: {rule.id: late}, max_age: 1h}\nsteps: [{set: {a: 1}}]\n",
    "patient": "on: {match: {rule.id: patient}}\n"
    'steps:\n  - id: again\n    wait: {for_alert: {match: {"entities.hosts[].name": '
    '"${{ alert.entities.hosts[0].name }}"}}}\n    timeout: 2h\n',
    "picky": "on: {match: {rule.id: nothing, severity: {at_least: low}, title: {wildcard: 'Odd*'}}}\n"
    "steps: [{set: {a: 1}}]\n",
}

GATHERING = ("first", "collect", "threshold")


def alert(rule: str, uid: str, **fields: object) -> bytes:
    return as_bytes({"id": uid, "rule_id": rule, "title": "Odd logon", "severity": "high", **fields})


@pytest.fixture(scope="module")
def told(filled: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home where every kind of outcome came about."""
    home = Home(tmp_path_factory.mktemp("told"))
    for folder in ("playbooks", "mappings"):
        (home.folder / folder).mkdir()
    for name, text in PLAYBOOKS.items():
        (home.folder / "playbooks" / f"{name}.yaml").write_text(f"playbook: {name}\n{HEAD}{text}")
    for name in ("journal.key", "token"):
        (home.folder / name).write_bytes((filled.folder / name).read_bytes())
        (home.folder / name).chmod(0o600)
    write_config(home.folder, "http://127.0.0.1:9")
    home.work({"waits": alert("patient", "p", hostname="ws-1")})
    home.work(
        {
            **{
                f"{rule} {n}": alert(rule, f"{rule}-{n}")
                for rule in ("first", "collect", "threshold")
                for n in range(4)
            },
            "late": alert("late", "l", time="2020-01-01T00:00:00Z"),
            "no match": alert("else", "e", severity="informational"),
            "duplicate": alert("else", "e", severity="informational"),
            "conflict": alert("else", "e", severity="low"),
            "again": alert("else", "a", hostname="ws-1"),
        }
    )
    return home


def because(home: Home, name: str) -> str:
    """What the playbook that comes first says of an alert."""
    return str(home.soar("explain", home.alert(name), "--json").json["verdicts"][0]["because"])


def test_a_window_tells_which_alert_came_first_and_what_is_needed(told: Home) -> None:
    first, collect, third = (told.alert(name) for name in ("first 0", "collect 0", "threshold 2"))
    assert because(told, "first 0") == "answered"
    assert because(told, "first 3") == (
        f"suppressed: alert {first} of the same key came before, and one is enough within 30m"
    )
    assert because(told, "collect 3") == (
        f"correlated: it joined the run that alert {collect} of the same key began, as number 4 of them within 1h"
    )
    assert because(told, "threshold 1") == "suppressed: it was number 2 of its key within 10m, and 3 are needed"
    assert because(told, "threshold 2") == "answered: it was number 3 of its key within 10m, 3 are needed"
    assert because(told, "threshold 3") == (
        f"correlated: it joined the run that alert {third} of the same key began, as number 4 of them within 10m"
    )
    out = told.soar("explain", told.alert("threshold 0")).out
    assert "threshold  suppressed: it was number 1 of its key within 10m, and 3 are needed" in out


def test_one_that_came_too_late_is_expired(told: Home) -> None:
    out = told.soar("explain", told.alert("late")).out
    assert "expired: it was too old when it was admitted" in out
    assert "no  not older than 1h" in out


def test_the_nearest_playbook_comes_first_and_says_what_was_missing(told: Home) -> None:
    """Near misses are in the order of how many conditions said no, then of how many did not."""
    explanation = told.soar("explain", told.alert("no match"), "--json").json
    nearest, *others = explanation["verdicts"]
    assert (explanation["outcome"], nearest["outcome"]) == ("no_match", None)
    refused = [sum(not check["held"] for check in each["checks"]) for each in (nearest, *others)]
    assert refused == sorted(refused)
    assert (nearest["playbook"], nearest["because"]) == ("late", "no answer: 1 of 3 conditions said no")
    picky = told.soar("explain", told.alert("no match"), "--playbook", "picky").out
    assert "no answer: 2 of 4 conditions said no" in picky
    assert 'no  severity is at least low  "informational"' in picky
    assert 'no  rule.id is any of nothing  "else"' in picky
    assert 'yes title is like Odd*  "Odd logon"' in picky


def test_a_duplicate_and_a_conflict_name_the_other(told: Home) -> None:
    again = told.soar("explain", told.alert("duplicate")).out
    assert f"repeats     {told.alert('no match')}: same id and content" in again
    assert "not asked" in again
    other = told.soar("explain", told.alert("conflict")).out
    assert f"conflicts   with {told.alert('no match')}: same id, other content" in other
    assert told.soar("explain", told.alert("no match"), "--json").json["conflicts_with"] == []


def test_an_alert_that_a_run_waited_for_has_joined_it(told: Home) -> None:
    """No playbook answers it, and yet it is not one that nobody wanted."""
    assert told.admitted["again"].outcome == "correlated"
    first = told.soar("explain", told.alert("again"), "--json").json["verdicts"][0]
    assert (first["playbook"], first["run"], first["state"]) == ("patient", told.run("waits"), "succeeded")
    assert first["because"].startswith("correlated: a run waited for such an alert at its step again")
    shown = told.soar("alerts", "show", told.alert("again"), "--json").json
    assert [match["path"] for match in shown["matches"]] == ["again"]
    assert "no answer" in told.soar("explain", told.alert("again"), "--playbook", "picky").out


def test_a_run_tells_which_alerts_joined_it(told: Home) -> None:
    later = [told.alert(f"collect {n}") for n in (1, 2, 3)]
    assert told.story(told.run("collect 0"))["joined"] == later
    shown = told.soar("runs", "show", told.run("collect 0")).out
    assert f"{told.alert('collect 0')}, joined by 3 later: {', '.join(each[-8:] for each in later)}" in shown
    assert told.story(told.run("waits"))["joined"] == [told.alert("again")]
    assert told.story(told.run("first 0"))["joined"] == []


def test_what_a_playbook_that_is_gone_made_of_it_is_still_told(told: Home, tmp_path: Path) -> None:
    file = told.folder / "playbooks" / "threshold.yaml"
    text = file.read_text()
    file.unlink()
    try:
        out = told.soar("explain", told.alert("threshold 1")).out
        assert "suppressed: it was number 2 of its key, and more are needed" in out
        assert "it is no longer loaded" in out
        file.write_text(text.replace("rule.id: threshold", "rule.id: other"))
        note = told.soar("explain", told.alert("threshold 1"), "--playbook", "threshold", "--json").json
        assert "it would not answer now" in note["verdicts"][0]["note"]
    finally:
        file.write_text(text)


def test_every_alert_of_a_home_has_one_outcome(told: Home) -> None:
    counts = json.loads(told.soar("alerts", "list", "--json", "--limit", "100").out)
    assert len(counts) == len(told.admitted)
    assert {each["outcome"] for each in counts} == {
        "matched",
        "suppressed",
        "correlated",
        "expired",
        "no_match",
        "duplicate",
    }
