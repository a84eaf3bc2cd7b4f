"""Approvals on the command line: what is seen is what is granted."""

import json
import sqlite3
from typing import Any

import pytest

from soar.cli.answers import parse_answer
from soar.cli.show import visible, visible_bytes
from soar.errors import InputError
from soar.model.approval import ApprovalState

from .operate_home import Home


def test_the_list_holds_what_waits_and_with_all_what_is_over(copy: Home) -> None:
    assert len(copy.soar("approvals", "list", "--json").json) == 2
    copy.say("deny", "server")
    waiting = copy.soar("approvals", "list").out
    assert "Did merry plan this?" in waiting
    assert "isolate_host" not in waiting
    over = copy.soar("approvals", "list", "--all").out
    assert [line.split()[3] for line in over.splitlines() if "isolate_host" in line] == ["denied"]


def test_a_request_is_shown_from_what_is_bound_with_the_reasons_of_policy(filled: Home) -> None:
    approval = filled.approval("server")
    shown = filled.soar("approvals", "show", approval.id).out
    binding = approval.binding
    for words in (
        "action      lab_edr.isolate_host (reversible)",
        'with        host = "db-01"',
        'target      host "db-01"',
        "why asked   host db-01 is of tier server: people must agree [matrix.tier]",
        "must agree  1 of soc-lead",
        f"contain, sha256 {binding['playbook_sha256']}",
        f"revision {binding['policy_revision']}",
        f"digest      {approval.digest}",
    ):
        assert words in shown
    assert "Odd service" not in shown, "the alert's title is the attacker's"


def test_consent_is_given_to_what_was_just_shown_and_only_after_a_yes(copy: Home) -> None:
    approval = copy.approval("server").id
    no = copy.soar("approvals", "grant", approval, "--as", "alice", say="n\n")
    assert no.code == 1
    assert 'host = "db-01"' in no.out
    assert copy.approval("server").votes == ()
    yes = copy.soar("approvals", "grant", approval, "--as", "alice", "--reason", "seen it", say="y\n")
    assert yes.code == 0
    assert "granted: it may be done until" in yes.out
    granted = copy.approval("server")
    vote = granted.votes[0]
    assert (vote.approver, vote.method, vote.reason, vote.digest) == ("alice", "cli", "seen it", granted.digest)


def test_nobody_to_ask_is_no_consent(copy: Home) -> None:
    ended = copy.soar("approvals", "grant", copy.approval("server").id, "--as", "alice", say="")
    assert ended.code == 1
    assert copy.approval("server").state is ApprovalState.PENDING


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--yes"], 2, "with --yes --digest what you saw"),
        (["--json"], 2, "with --yes --digest what you saw"),
        (["--json", "--digest", "DIGEST"], 2, "with --yes --digest what you saw"),
        (["--yes", "--digest", "abc"], 2, "12 to 64 hex digits"),
        (["--yes", "--digest", "0123456789ab"], 5, "look again"),
        (["--digest", "0123456789ab"], 5, "look again"),
        (["--yes", "--digest", "DIGEST", "--as", "bob"], 3, "in none of the groups"),
        (["--yes", "--digest", "DIGEST", "--as", "mallory"], 3, "not among the configured people"),
    ],
)
def test_consent_that_is_not_sure_is_refused(copy: Home, words: list[str], code: int, says: str) -> None:
    approval = copy.approval("server")
    exact = [approval.digest[:12] if word == "DIGEST" else word for word in words]
    exact += [] if "--as" in words else ["--as", "alice"]
    ended = copy.soar("approvals", "grant", approval.id, *exact, say="y\n")
    assert ended.code == code
    assert says in ended.error
    assert copy.approval("server").votes == ()


def test_a_decision_is_taken_once(copy: Home) -> None:
    assert copy.say("grant", "server", "--json").json["state"] == "granted"
    again = copy.say("grant", "server")
    assert again.code == 5
    assert "already granted" in again.error


def test_a_request_that_was_changed_in_the_store_is_not_shown_and_not_granted(copy: Home) -> None:
    approval = copy.approval("server")
    forged = approval.model_copy(update={"binding": {**approval.binding, "params": {"host": "dc-01"}}})
    with sqlite3.connect(copy.database) as db:
        db.execute("UPDATE approvals SET approval = ? WHERE id = ?", (forged.model_dump_json(), approval.id))
    db.close()
    sure = ("--yes", "--digest", approval.digest, "--as", "alice")
    for words in (("show", approval.id), ("grant", approval.id, *sure)):
        ended = copy.soar("approvals", *words)
        assert ended.code == 1
        assert "changed from outside" in ended.error


def test_a_denied_action_is_not_done_and_the_run_says_by_whom(copy: Home) -> None:
    assert copy.say("deny", "server", "--reason", "planned work").out == "denied: it will not be done\n"
    copy.work()
    story = copy.story(copy.run("server"))
    assert story["run"]["state"] == "denied"
    assert story["attempts"] == []
    assert "alice denies it (cli): planned work" in [line["text"] for line in story["timeline"]]


def test_a_question_is_answered_with_one_of_its_options_and_the_run_goes_on(copy: Home) -> None:
    shown = copy.soar("approvals", "show", copy.approval("question").id).out
    assert 'question    "Did merry plan this?"' in shown
    assert 'answer      "planned" | "unplanned"' in shown
    wrong = copy.say("answer", "question", "unplaned")
    assert wrong.code == 2
    assert "'unplaned' is none of planned, unplanned; did you mean 'unplanned'?" in wrong.error
    assert copy.say("answer", "question", "planned").out == "answered; the run goes on\n"
    copy.work()
    story = copy.story(copy.run("question"))
    assert 'the answer is "planned", by alice' in [line["text"] for line in story["timeline"]]
    assert next(s for s in story["attempts"] if s["path"] == "ticket")["request"]["params"]["title"] == "It was planned"


def test_a_question_is_not_granted_and_an_action_is_not_answered(filled: Home) -> None:
    granted = filled.say("grant", "question")
    assert granted.code == 2
    assert "approvals answer" in granted.error
    answered = filled.say("answer", "server", "yes")
    assert answered.code == 2
    assert "approvals grant" in answered.error


@pytest.mark.parametrize(
    ("kind", "value", "answer"),
    [
        ("text", "yes", "yes"),
        ("number", "3", 3),
        ("number", "-2.5", -2.5),
        ("boolean", "Yes", True),
        ("boolean", "false", False),
        ("choice", "red", "red"),
    ],
)
def test_an_answer_has_the_type_that_is_asked_for(kind: str, value: str, answer: Any) -> None:
    parsed = parse_answer({"answer": kind, "options": ["red", "blue"]}, value)
    assert (type(parsed), parsed) == (type(answer), answer)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("number", "three"),
        ("number", "true"),
        ("number", "NaN"),
        ("number", "1e999"),
        ("number", '"3"'),
        ("boolean", "1"),
        ("boolean", ""),
        ("choice", "RED"),
        ("choice", ""),
    ],
)
def test_an_answer_of_another_type_is_refused(kind: str, value: str) -> None:
    with pytest.raises(InputError, match=r"is (no number|neither yes nor no|none of)"):
        parse_answer({"answer": kind, "options": ["red", "blue"]}, value)


@pytest.mark.parametrize(
    "hidden", ["\u202e", "\u200b", "\u00a0", "\x9b", "\U000e0041", "\x7f", "\n", "\u2028", "\ud800"]
)
def test_nothing_hides_in_what_a_person_is_shown(hidden: str) -> None:
    shown = visible({"host": f"ws-17{hidden}"})
    assert shown.isprintable()
    assert json.loads(shown) == {"host": f"ws-17{hidden}"}


def test_bytes_that_are_no_text_are_shown_as_escapes() -> None:
    assert visible_bytes(b"a\xff\x1b\r\nb\xc2\x9b") == "a\\xff\\u001b\\r\nb\\u009b"
