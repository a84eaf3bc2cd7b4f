"""The commands of the day, on a store that a real run has filled."""

import asyncio
import json
import socket
import sqlite3
import subprocess
import sys
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from soar.lab.faults import Fault, Mode
from soar.model.approval import ApprovalState

from .operate_home import ALERTS, NOT_JSON, PLAYBOOKS, Home, as_bytes


def test_status_counts_everything_and_says_how_much_is_signed(filled: Home) -> None:
    status = filled.soar("status", "--json").json
    assert status["halted"] is None
    assert status["alerts"] == {"matched": 4, "no_match": 1, "duplicate": 1, "dead_letter": 1}
    assert status["runs"] == {"succeeded": 2, "denied": 1, "waiting": 2}
    assert status["approvals"] == {"pending": 2}
    assert status["entries"] == status["signed"] > 20
    assert status["kafka"] is None
    assert "4 matched" in filled.soar("status").out


def test_status_says_what_waits_in_kafka(kafka: str, copy: Home) -> None:
    topic = f"status-{uuid4().hex[:8]}"

    async def produce() -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            for _ in range(3):
                await producer.send_and_wait(topic, b"{}")

    asyncio.run(produce())
    consume(copy, kafka, topic)
    assert copy.soar("status", "--json").json["kafka"] == {"group": topic, "records": 3, "problem": None}
    assert f"3 records wait for group {topic}" in copy.soar("status").out


def test_status_tells_all_else_when_the_broker_is_away(copy: Home) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        consume(copy, f"127.0.0.1:{closed.getsockname()[1]}", "alerts")
        status = copy.soar("status", "--json")
    assert status.code == 0
    assert status.json["kafka"]["records"] is None
    assert "cannot be asked" in status.json["kafka"]["problem"]
    assert status.json["alerts"]["matched"] == 4


def consume(home: Home, servers: str, topic: str) -> None:
    """Configure a topic, under a group of the same name."""
    document = json.loads(home.config.read_text())
    document["kafka"] = {"bootstrap_servers": servers, "topics": [topic], "group_id": topic}
    home.config.write_text(json.dumps(document))


def test_alerts_are_listed_by_outcome_and_source(filled: Home) -> None:
    duplicates = filled.soar("alerts", "list", "--outcome", "duplicate", "--json").json
    assert [alert["id"] for alert in duplicates] == [filled.alert("repeat")]
    assert filled.soar("alerts", "list", "--source", "okta", "--json").json == []
    assert filled.soar("alerts", "list", "--outcome", "lost").code == 2


def test_an_alert_shows_what_it_is_and_what_became_of_it(filled: Home) -> None:
    shown = filled.soar("alerts", "show", filled.alert("server")).out
    assert "severity    high (70 of 100)" in shown
    assert 'hosts       name="db-01"' in shown
    assert f"playbook    contain: matched, run {filled.run('server')} waiting" in shown


def test_the_words_of_an_alert_are_text_and_never_markup(filled: Home) -> None:
    for words in (("alerts", "list"), ("alerts", "show", filled.alert("hostile"))):
        shown = filled.soar(*words).out
        assert "[red]paint[/red]" in shown
        assert all(character.isprintable() or character == "\n" for character in shown)


def test_the_raw_payload_is_shown_whole_with_nothing_hidden(filled: Home) -> None:
    shown = filled.soar("alerts", "show", filled.alert("hostile"), "--raw").out
    assert json.loads(shown) == ALERTS["hostile"]
    assert all(character.isprintable() or character == "\n" for character in shown)


def test_an_erased_alert_is_still_listed_and_says_so(copy: Home) -> None:
    with sqlite3.connect(copy.database) as db:
        db.execute(
            "DELETE FROM payloads WHERE entry_id = (SELECT entry_id FROM alerts WHERE id = ?)", (copy.alert("server"),)
        )
    db.close()
    assert "body        erased" in copy.soar("alerts", "show", copy.alert("server")).out
    explained = copy.soar("explain", copy.alert("server"))
    assert explained.code == 2
    assert "was erased" in explained.error


def test_runs_are_listed_by_state_playbook_and_alert(filled: Home) -> None:
    def listed(*words: str) -> list[str]:
        return [run["id"] for run in filled.soar("runs", "list", *words, "--json").json]

    assert listed("--state", "denied") == [filled.run("protected")]
    assert listed("--playbook", "contain") == [filled.run("server"), filled.run("protected")]
    assert listed("--playbook", "contain", "--limit", "1") == [filled.run("server")]
    assert listed("--alert", filled.alert("question")) == [filled.run("question")]


def test_a_denied_run_tells_which_control_of_which_revision_said_no(filled: Home) -> None:
    shown = filled.soar("runs", "show", filled.run("protected")).out
    story = filled.story(filled.run("protected"))
    denial = next(line for line in story["timeline"] if "denies" in line["text"])
    assert denial["text"].endswith('denies lab_edr.isolate_host host="dc-01"')
    assert denial["notes"] == ["host dc-01 is protected: domain controllers (data/assets.yaml) [protected.asset]"]
    assert denial["text"] in shown
    assert denial["notes"][0] in shown
    assert story["timeline"][-1]["text"] == "the run ends: denied"
    assert story["attempts"] == []


def test_a_waiting_run_says_for_whom_it_waits_and_until_when(filled: Home) -> None:
    story = filled.story(filled.run("server"))
    approval = filled.approval("server")
    until = f"{approval.decide_by:%Y-%m-%d %H:%M:%S}"
    assert story["waits_for"] == [f"isolate: the consent of 1 of soc-lead until {until} UTC ({approval.id})"]
    assert story["waits_for"][0] in filled.soar("runs", "show", filled.run("server")).out


def test_a_run_names_its_sub_runs_with_their_ends(filled: Home) -> None:
    story = filled.story(filled.run("look"))
    child = story["children"][0]
    assert (child["kind"], child["state"], child["parent_path"]) == ("call", "succeeded", "1")
    assert f"call run    {child['id']}: succeeded, of step 1" in filled.soar("runs", "show", filled.run("look")).out


def test_an_id_may_be_cut_at_its_end_or_at_its_beginning(filled: Home) -> None:
    whole = filled.run("server")
    for part in (whole, whole[-6:], whole[-8:].lower(), whole.removeprefix("run-"), whole[:-1] + whole[-1]):
        assert filled.story(part)["run"]["id"] == whole


def test_a_part_that_several_ids_share_is_refused_and_names_them(filled: Home) -> None:
    ended = filled.soar("runs", "show", "run-")
    assert ended.code == 2
    assert "'run-' names 5 runs; give more of the id:" in ended.error
    assert f"{filled.run('server')} (contain, waiting)" in ended.error


@pytest.mark.parametrize("thing", ["alerts", "runs", "approvals", "deadletters"])
def test_an_unknown_id_says_where_ids_are_found(filled: Home, thing: str) -> None:
    ended = filled.soar(thing, "show", "ZZZZZZ")
    assert ended.code == 2
    assert f"`soar {thing} list`" in ended.error


def test_a_cancelled_run_ends_and_so_does_its_request_to_people(copy: Home) -> None:
    done = copy.soar("runs", "cancel", copy.run("server"), "--reason", "false alarm", "--as", "alice")
    assert done.out == f"run {copy.run('server')} ends before its next step\n"
    copy.work()
    story = copy.story(copy.run("server"))
    assert story["run"]["state"] == "cancelled"
    assert "alice asks for the run's end: false alarm" in [line["text"] for line in story["timeline"]]
    assert copy.approval("server").state is ApprovalState.CANCELLED
    again = copy.soar("runs", "cancel", copy.run("server"), "--reason", "again", "--as", "alice")
    assert again.code == 5


def test_a_retried_run_does_its_denied_steps_again(copy: Home) -> None:
    words = ("--reason", "policy is fixed", "--as", "alice", "--json")
    assert copy.soar("runs", "retry", copy.run("protected"), *words).json["about"] == ["isolate"]
    copy.work()
    told = [line["text"] for line in copy.story(copy.run("protected"))["timeline"]]
    assert "alice has 1 failed or denied steps done again: policy is fixed" in told
    assert len([text for text in told if "denies" in text]) == 2
    assert copy.soar("runs", "retry", copy.run("server"), *words).code == 5


def test_a_person_says_what_became_of_a_call_whose_answer_was_lost(copy: Home) -> None:
    """The chat acted and cut the connection; a second message would be one too many, so a person decides."""
    alert = {**ALERTS["look"], "id": "b-1"}
    copy.work({"lost": as_bytes(alert)}, faults={"chat": Fault(mode=Mode.DROP_AFTER)})
    child = copy.story(copy.run("lost"))["children"][0]
    assert child["state"] == "needs_review"
    words = ("--reason", "the message is there", "--as", "alice")
    done = copy.soar("runs", "resolve", child["id"], "--happened", *words)
    assert done.out.endswith("goes on; it is recorded that this happened: tell\n")
    copy.work()
    assert copy.story(copy.run("lost"))["run"]["state"] == "succeeded"
    told = [line["text"] for line in copy.story(child["id"])["timeline"]]
    assert "alice says that it happened: the message is there" in told
    assert copy.soar("runs", "resolve", child["id"], "--happened", *words).code == 5


def test_a_granted_action_is_verified_then_taken_back_by_hand(copy: Home) -> None:
    copy.say("grant", "server", "--reason", "seen it too")
    copy.work()
    told = [line["text"] for line in copy.story(copy.run("server"))["timeline"]]
    for text in (
        "alice grants it (cli): seen it too",
        "the consent is used, for this one call",
        'it worked: host="db-01" isolated=true',
        "will be taken back by host.release after 8h",
        "confirmed by reading back",
        "the run ends: succeeded",
    ):
        assert text in told
    undo = copy.soar("runs", "undo", copy.run("server"), "--step", "isolate", "--as", "alice", "--json").json
    copy.work()
    taken_back = copy.story(undo["about"][0])
    assert taken_back["run"]["state"] == "succeeded"
    assert 'it worked: host="db-01" isolated=false' in [line["text"] for line in taken_back["timeline"]]


def test_what_was_never_done_cannot_be_taken_back(filled: Home) -> None:
    ended = filled.soar("runs", "undo", filled.run("server"), "--step", "isolate", "--as", "alice")
    assert ended.code == 2
    assert "nothing at 'isolate'" in ended.error


def test_while_halted_nothing_is_sent_and_the_run_says_why_it_waits(copy: Home) -> None:
    assert copy.soar("halt", "--reason", "wrong hosts", "--as", "bob", "--json").json == {
        "halted": "wrong hosts",
        "by": "bob",
    }
    assert "HALTED: wrong hosts" in copy.soar("status").out
    copy.work({"late": as_bytes({**ALERTS["look"], "id": "b-2"})})
    story = copy.story(copy.run("late"))
    assert story["waits_for"] == ["ticket: actions to be let out again (soar resume)"]
    assert story["attempts"] == []
    copy.soar("resume", "--reason", "fixed", "--as", "bob")
    assert copy.soar("status", "--json").json["halted"] is None


def test_the_kill_switch_works_while_all_else_is_broken(copy: Home) -> None:
    """Secrets gone, policies gone, a playbook that does not parse: just then somebody will want to halt."""
    (copy.folder / "token").unlink()
    (copy.folder / "playbooks" / "contain.yaml").write_text("playbook: [")
    document = json.loads(copy.config.read_text()) | {"policy": {"path": "gone"}}
    copy.config.write_text(json.dumps(document))
    assert copy.soar("halt", "--reason", "stop it all", "--as", "bob").code == 0
    assert copy.soar("status", "--json").json["halted"] == "stop it all"
    assert copy.say("deny", "server").code == 0
    assert copy.soar("runs", "show", copy.run("server")).code == 0


def test_explain_names_the_condition_that_said_no_and_what_the_alert_has_there(filled: Home) -> None:
    explained = filled.soar("explain", filled.alert("hostile"), "--json").json
    contain = next(verdict for verdict in explained["verdicts"] if verdict["playbook"] == "contain")
    assert contain["outcome"] is None
    refused = {check["condition"]: check["actual"] for check in contain["checks"] if not check["held"]}
    assert refused == {"rule.id is any of contain": [], "severity is at least high": "low"}
    assert 'no  severity is at least high  "low"' in filled.soar("explain", filled.alert("hostile")).out


def test_explain_tells_the_answer_first_with_its_run_and_every_condition(filled: Home) -> None:
    explained = filled.soar("explain", filled.run("look"), "--json").json
    assert explained["alert"] == filled.alert("look")
    first = explained["verdicts"][0]
    assert (first["playbook"], first["outcome"], first["run"]) == ("open-ticket", "matched", filled.run("look"))
    assert first["state"] == "succeeded"
    where = next(check for check in first["checks"] if check["condition"].startswith("length("))
    assert where["actual"] == {"entities.hosts": {"id": None, "name": "ws-17", "ip": None, "os": None}}
    assert [check["held"] for check in first["checks"]] == [True] * 4


def test_explain_says_what_a_duplicate_repeats(filled: Home) -> None:
    assert filled.soar("explain", filled.alert("repeat"), "--json").json["repeat_of"] == filled.alert("look")
    assert f"repeats     {filled.alert('look')}: same id" in filled.soar("explain", filled.alert("repeat")).out


def test_explain_says_where_playbooks_have_changed_since(copy: Home) -> None:
    (copy.folder / "playbooks" / "open-ticket.yaml").write_text(PLAYBOOKS["open-ticket"].replace("[look]", "[none]"))
    (copy.folder / "playbooks" / "contain.yaml").unlink()

    def note(alert: str) -> dict[str, str | None]:
        return {each["playbook"]: each["note"] for each in copy.soar("explain", alert, "--json").json["verdicts"]}

    assert note(copy.alert("look"))["open-ticket"] == "it would not answer now: it was changed after the alert came"
    assert note(copy.alert("server"))["contain"] == "it is no longer loaded"


def test_explain_takes_one_playbook_and_knows_when_there_is_none_of_that_name(filled: Home) -> None:
    one = filled.soar("explain", filled.alert("look"), "--playbook", "contain", "--json").json
    assert [verdict["playbook"] for verdict in one["verdicts"]] == ["contain"]
    assert filled.soar("explain", filled.alert("look"), "--playbook", "contains").code == 2


def test_a_dead_letter_says_why_and_shows_its_bytes_without_steering_the_terminal(filled: Home) -> None:
    letter = filled.soar("deadletters", "list", "--json").json[0]
    assert letter["code"] == "not_utf8"
    shown = filled.soar("deadletters", "show", letter["id"]).out
    assert "not UTF-8 (byte 14)" in shown
    assert "not JSON \\u001b[2J \\xff" in shown


def test_a_dead_letter_gives_its_bytes_back_as_they_came(filled: Home) -> None:
    letter = filled.soar("deadletters", "list", "--json").json[0]["id"]
    command = [sys.executable, "-m", "soar", "deadletters", "show", letter, "--raw", "-c", str(filled.config)]
    assert subprocess.run(command, capture_output=True, check=True).stdout == NOT_JSON


def test_an_error_is_one_message_and_an_exit_code_never_a_traceback(filled: Home) -> None:
    command = [sys.executable, "-m", "soar", "runs", "show", "nothing", "-c", str(filled.config)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("soar: no run 'nothing'")
    assert "Traceback" not in ended.stderr


def test_who_belongs_to_nobody_may_look_but_not_act(copy: Home) -> None:
    """No person of this configuration has the account that runs the tests."""
    assert copy.soar("status").code == 0
    for words in (("halt", "--reason", "x"), ("runs", "cancel", copy.run("server"), "--reason", "x")):
        ended = copy.soar(*words)
        assert ended.code == 3
        assert "belongs to nobody" in ended.error
    assert copy.soar("status", "--json").json["halted"] is None
