"""What people do to one run by its name, and to many by a filter."""

import pytest

from soar.lab.faults import Fault, Mode
from soar.model.run import RunState

from .operate_home import ALERTS, Home, as_bytes

ALICE = ("--reason", "maintenance", "--as", "alice")


def listed(home: Home, state: str) -> list[str]:
    return [run["id"] for run in home.soar("runs", "list", "--state", state, "--json").json]


def failed(home: Home, count: int) -> list[str]:
    """So many more runs that failed at their first step; newest first, as lists are."""
    alerts = {f"f{n}": as_bytes({**ALERTS["look"], "id": f"f-{n}", "title": f"Beacon {n}"}) for n in range(count)}
    home.work(alerts, faults={"desk": Fault(mode=Mode.UNAUTHORIZED)})
    runs = sorted((home.run(name) for name in alerts), reverse=True)
    assert set(runs) == set(listed(home, "failed"))
    return runs


def texts(home: Home, run: str) -> list[str]:
    return [line["text"] for line in home.story(run)["timeline"]]


CALLING = {
    "twice": """
playbook: twice
description: Calls one that fails at its second step.
owner: soc
on: {match: {rule.id: [twice]}}
steps:
  - {id: sub, call: say-and-open}
""",
    "say-and-open": """
playbook: say-and-open
description: Tell the SOC, then open a ticket.
owner: soc
steps:
  - {id: say, use: notify.send, with: {channel: soc, text: hello}}
  - {id: ticket, use: ticket.create, with: {title: x}}
""",
}


# -- one run ----------------------------------------------------------------------------------------------------


def test_a_paused_run_says_so_until_it_is_resumed(copy: Home) -> None:
    run = copy.run("server")
    done = copy.soar("runs", "pause", run, *ALICE)
    assert done.out == f"run {run} is paused; nothing is sent until `soar runs resume`\n"
    assert f"{run}: waiting, paused" in copy.soar("runs", "show", run).out
    assert "waiting, paused" in copy.soar("runs", "list").out
    assert copy.story(run)["run"]["paused"] is True
    assert copy.soar("runs", "pause", run, *ALICE).code == 5
    assert copy.soar("runs", "resume", run, *ALICE).out == f"run {run} goes on where it was paused\n"
    assert copy.soar("runs", "resume", run, *ALICE).code == 5
    assert "paused" not in copy.soar("runs", "list").out
    assert texts(copy, run)[-2:] == ["alice pauses the run: maintenance", "alice lets the run go on: maintenance"]


def test_the_kill_switch_is_not_what_resumes_a_run(copy: Home) -> None:
    copy.soar("runs", "pause", copy.run("server"), *ALICE)
    assert copy.soar("resume", *ALICE).code == 0
    assert copy.story(copy.run("server"))["run"]["paused"] is True


def test_a_skipped_step_is_told_with_who_and_why(copy: Home) -> None:
    run = copy.run("protected")
    assert copy.soar("runs", "skip", run, "isolate", *ALICE).out == f"run {run} goes on without: isolate\n"
    copy.work()
    story = copy.story(run)
    assert (story["run"]["state"], story["steps"][0]["state"]) == ("succeeded", "skipped")
    assert "alice has it skipped: maintenance" in texts(copy, run)
    assert copy.soar("runs", "skip", run, "isolate", *ALICE).code == 5
    assert "it has isolate" in copy.soar("runs", "skip", copy.run("server"), "none", *ALICE).error


def test_a_retry_from_a_step_is_told_and_never_repeats_without_a_word(copy: Home) -> None:
    """The ticket is there, so the desk would open a second one; the message failed."""
    alert = as_bytes({**ALERTS["look"], "id": "r-1"})
    copy.work({"r": alert}, faults={"chat": Fault(mode=Mode.UNAUTHORIZED)})
    run = copy.run("r")
    refused = copy.soar("runs", "retry", run, "--from", "none", *ALICE)
    assert refused.code == 2
    assert "one of ticket, 1" in refused.error
    done = copy.soar("runs", "retry", run, "--from", "1", *ALICE)
    assert done.out.startswith(f"run {run} goes on and does again everything from 1 on: 1")
    copy.work()
    assert copy.story(run)["run"]["state"] == "succeeded"
    assert "alice has everything from 1 on done again: maintenance" in texts(copy, run)


# -- many runs --------------------------------------------------------------------------------------------------


def test_all_that_fit_a_filter_are_retried_each_in_its_own_name(copy: Home) -> None:
    runs = failed(copy, 3)
    done = copy.soar("runs", "retry", "--state", "failed", "--playbook", "open-ticket", *ALICE, say="y\n")
    assert (done.code, done.out.endswith("retry: 3 done\n")) == (0, True)  # the runner echoes what was typed
    assert "retry: 3 runs (3 open-ticket, failed)" in done.error
    for number, run in enumerate(runs, 1):
        assert f"{number}/3 {run} done\n" in done.error
    assert set(runs) <= set(listed(copy, "ready"))
    for run in runs:
        assert "alice has 1 failed or denied steps done again: maintenance" in texts(copy, run)
    copy.work()
    assert set(runs) <= set(listed(copy, "succeeded"))


def test_nothing_is_touched_before_somebody_says_yes(copy: Home) -> None:
    runs = failed(copy, 2)
    for said in ("n\n", ""):
        asked = copy.soar("runs", "retry", "--state", "failed", *ALICE, say=said)
        assert asked.code == 1
        assert all(run in asked.error for run in runs)
    assert listed(copy, "failed") == runs


def test_a_limit_takes_the_newest_and_says_how_many_it_leaves_out(copy: Home) -> None:
    runs = failed(copy, 3)
    done = copy.soar("runs", "retry", "--state", "failed", "--limit", "2", *ALICE, say="y\n")
    assert done.out.endswith("retry: 2 done\n")
    assert "1 older runs fit too and are left out" in done.error
    assert listed(copy, "failed") == [runs[2]]


def test_what_is_refused_is_told_stops_nothing_and_is_the_exit_code(copy: Home) -> None:
    """A sub-run sent its message before it failed; a new one would send it again, so a person must look at it."""
    for name, text in CALLING.items():
        (copy.folder / "playbooks" / f"{name}.yaml").write_text(text)
    alerts = {
        "good": as_bytes({**ALERTS["look"], "id": "g-1"}),
        "twice": as_bytes({**ALERTS["look"], "id": "t-1", "rule_id": "twice"}),
    }
    copy.work(alerts, faults={"desk": Fault(mode=Mode.UNAUTHORIZED)})
    done = copy.soar("runs", "retry", "--state", "failed", "--json", "--yes", *ALICE)
    assert done.code == 5
    assert done.json["done"] == [copy.run("good")]
    (refused,) = done.json["refused"]
    assert refused["run"] == copy.run("twice")
    assert "would repeat what took effect: sub: say of run-" in refused["why"]
    assert f"{refused['run']} refused: " in done.error


def test_all_that_wait_are_cancelled_but_an_undo_only_by_its_name(copy: Home) -> None:
    copy.say("grant", "server", "--reason", "seen it")
    copy.work()
    undo, question = listed(copy, "waiting")
    assert question == copy.run("question")
    done = copy.soar("runs", "cancel", "--state", "waiting", "--json", "--yes", *ALICE)
    assert (done.code, done.json) == (0, {"done": [question], "refused": []})
    copy.work()
    assert (listed(copy, "cancelled"), listed(copy, "waiting")) == ([question], [undo])
    assert copy.soar("runs", "cancel", "--state", "waiting", "--yes", *ALICE).out == "cancel: 0 done\n"
    assert copy.soar("runs", "cancel", undo, *ALICE).code == 0


def test_only_runs_of_that_time_and_playbook_are_meant(copy: Home) -> None:
    done = copy.soar("runs", "cancel", "--playbook", "contain", "--since", "2h", "--json", "--yes", *ALICE)
    assert done.json["done"] == [copy.run("server")]
    assert copy.soar("runs", "cancel", "--since", "1ms", "--yes", *ALICE).out == "cancel: 0 done\n"
    assert RunState.WAITING in {run["state"] for run in copy.soar("runs", "list", "--json").json}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "which runs?"),
        (("RUN", "--state", "failed"), "not both"),
        (("--since", "soon"), "--since: 'soon' is no duration"),
        (("--state", "failed", "--from", "ticket"), "are for one run"),
        (("--state", "failed", "--yes-again"), "are for one run"),
    ],
)
def test_a_filter_that_is_none_is_refused(filled: Home, words: tuple[str, ...], why: str) -> None:
    ended = filled.soar("runs", "retry", *words, *ALICE)
    assert ended.code == 2
    assert why in ended.error
