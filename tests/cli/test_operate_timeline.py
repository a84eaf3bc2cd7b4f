"""What a run's entries say to a person, word for word."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from soar.engine.timeline import Line, Tone, timeline
from soar.engine.wording import awaited, brief, moment, quorums
from soar.errors import JournalError
from soar.journal.leaf import seal
from soar.model.approval import Approval, ApprovalState, Requirement
from soar.model.decision import GroupQuorum
from soar.model.entry import Entry, EntryType
from soar.store.seen import EntryRow

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
RUN = "run-1"
OLD, NEW = "a" * 64, "b" * 64

Data = dict[str, str | int | bool]


def fact(
    kind: EntryType,
    subject: str,
    data: Data | None = None,
    payload: dict[str, Any] | None = None,
    *,
    actor: str = "worker:w",
    erased: bool = False,
) -> EntryRow:
    """An entry as the store gives it back."""
    entry = Entry(
        id="entry-1", type=kind, at=NOW, actor=actor, run_id=RUN, subject=subject, data=data or {}, payload=payload
    )
    sealed = seal(entry, run_seq=0, run_prev="")
    return EntryRow(
        index=0,
        id=entry.id,
        type=kind.value,
        at=NOW,
        run_id=RUN,
        leaf=sealed.leaf,
        leaf_hash=sealed.leaf_hash,
        salt=sealed.salt,
        payload=None if erased else sealed.payload,
    )


def decided(path: str, effect: str, *, revision: str = OLD, phase: str = "plan", **decision: Any) -> EntryRow:
    action = {"connector": "edr", "verb": "isolate", "params": {"host": "ws-17"}}
    payload = {"decision": {"effect": effect, **decision}, "input": {"phase": phase, "action": action}}
    return fact(EntryType.POLICY_DECIDED, path, {"effect": effect, "revision": revision}, payload)


def intent(path: str, attempt: int = 1) -> EntryRow:
    return fact(EntryType.ACTION_INTENT, path, {"action": "edr.isolate", "attempt": attempt}, {"request": {}})


def outcome(path: str, state: str, **payload: Any) -> EntryRow:
    return fact(EntryType.ACTION_OUTCOME, path, {"action": "edr.isolate", "attempt": 1, "state": state}, payload)


def ended(path: str, state: str, *, kind: str = "use", code: str | None = None, **payload: Any) -> EntryRow:
    data: Data = {"kind": kind, "state": state, **({"code": code} if code else {})}
    return fact(EntryType.STEP_FINISHED, path, data, payload or None)


def waiting(path: str, **data: Any) -> EntryRow:
    return fact(EntryType.STEP_WAITING, path, {"kind": "use", "state": "waiting"}, {"data": data})


def asked(name: str, path: str, **binding: Any) -> EntryRow:
    bound = {"path": path, "expires": "2026-05-04T12:30:00.000000Z", "nonce": name, **binding}
    return fact(EntryType.APPROVAL_REQUESTED, name, {"digest": OLD}, {"binding": bound})


def voted(name: str, decision: str, **payload: Any) -> EntryRow:
    data: Data = {"decision": decision, "method": "cli"}
    return fact(EntryType.APPROVAL_VOTED, name, data, payload, actor="person:alice")


def closed(name: str, state: str) -> EntryRow:
    return fact(EntryType.APPROVAL_CLOSED, name, {"state": state})


def told(*rows: EntryRow) -> list[str]:
    """The lines as `step: text`, each note on a line of its own behind a dash."""
    shown = []
    for line in timeline(rows):
        shown.append(f"{line.path}: {line.text}" + (f" (x{line.times})" if line.times > 1 else ""))
        shown += [f"- {note}" for note in line.notes]
    return shown


def test_an_action_that_is_allowed_and_works_takes_three_lines() -> None:
    created: Data = {"kind": "alert", "playbook": "contain", "playbook_digest": NEW, "alert": "alert-9"}
    assert told(
        fact(EntryType.RUN_CREATED, RUN, created, actor="soar"),
        decided("isolate", "allow"),
        intent("isolate"),
        outcome("isolate", "succeeded", result={"isolated": True}),
        ended("isolate", "succeeded", result={"isolated": True}),
        fact(EntryType.RUN_FINISHED, RUN, {"state": "succeeded"}, {"outputs": {"isolated": True}}),
    ) == [
        ": playbook contain answers alert alert-9",
        "- playbook digest bbbbbbbbbbbb",
        'isolate: policy aaaaaaaaaaaa allows edr.isolate host="ws-17"',
        "isolate: sends edr.isolate",
        "isolate: it worked: isolated=true",
        ": the run ends: succeeded",
        "- outputs: isolated=true",
    ]


def test_a_denial_gives_every_reason_once_and_the_revision() -> None:
    reasons = [{"code": "protected.asset", "control": "protected", "msg": "host dc-01 is protected"}]
    assert told(
        decided("isolate", "deny", reasons=reasons, warnings=["the asset list is old"]),
        ended("isolate", "denied", code="policy_denied", error="host dc-01 is protected [protected.asset]"),
    ) == [
        'isolate: policy aaaaaaaaaaaa denies edr.isolate host="ws-17"',
        "- host dc-01 is protected [protected.asset]",
        "- warning: the asset list is old",
    ]


def test_consent_is_told_from_the_question_to_its_use() -> None:
    approval = {"type": "approval", "groups": [{"group": "lead", "min": 2}, {"group": "manager", "min": 1}]}
    expire = {"type": "expire", "after": "8h"}
    assert told(
        decided("isolate", "require_approval", obligations=[approval, expire]),
        asked("approval-1", "isolate"),
        waiting("isolate", phase="approval", approval_id="approval-1"),
        voted("approval-1", "grant", reason="seen it"),
        closed("approval-1", "granted"),
        decided("isolate", "allow", phase="execute"),
        fact(EntryType.APPROVAL_CONSUMED, "approval-1", {"path": "isolate"}),
        intent("isolate"),
    ) == [
        'isolate: policy aaaaaaaaaaaa wants the consent of 2 of lead and 1 of manager to edr.isolate host="ws-17"',
        "- to be taken back after 8h",
        "isolate: asks people for consent, until 2026-05-04 12:30:00 UTC",
        "- approval-1, digest aaaaaaaaaaaa",
        "isolate: alice grants it (cli): seen it",
        "isolate: all who must agree have agreed",
        'isolate: checked again before sending: policy allows edr.isolate host="ws-17"',
        "isolate: the consent is used, for this one call",
        "isolate: sends edr.isolate",
    ]


def test_void_consent_says_what_changed_since() -> None:
    assert told(
        asked("approval-1", "isolate", policy_revision=OLD, params={"host": "ws-17"}),
        voted("approval-1", "grant"),
        closed("approval-1", "superseded"),
        asked("approval-2", "isolate", policy_revision=NEW, params={"host": "ws-17"}),
    )[3:] == [
        "isolate: what would be sent is no longer what people were shown; their consent is void",
        "isolate: asks people for consent, until 2026-05-04 12:30:00 UTC",
        "- approval-2, digest aaaaaaaaaaaa",
        "- changed since people were asked before: policy_revision",
    ]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([voted("approval-1", "deny", reason="no"), closed("approval-1", "denied")], "alice denies it (cli): no"),
        ([closed("approval-1", "expired")], "the time for it is over; that counts as a no"),
    ],
)
def test_a_no_is_told_once(rows: list[EntryRow], line: str) -> None:
    step = ended("isolate", "denied", code="approval_denied", error="denied by alice: no")
    assert told(asked("approval-1", "isolate"), *rows, step)[2:] == [f"isolate: {line}"]


def test_a_question_and_its_answer() -> None:
    assert told(
        asked("approval-1", "planned", question="Was it planned?"),
        waiting("planned", phase="answer", approval_id="approval-1"),
        voted("approval-1", "grant", answer="yes"),
        closed("approval-1", "granted"),
        ended("planned", "succeeded", kind="ask", result={"answer": "yes", "by": ["alice"]}),
    ) == [
        "planned: asks people: Was it planned?, until 2026-05-04 12:30:00 UTC",
        "- approval-1, digest aaaaaaaaaaaa",
        'planned: alice answers "yes" (cli)',
        'planned: the answer is "yes", by alice',
    ]


def test_tries_that_fail_say_why_and_when_the_next_one_is() -> None:
    until = "2026-05-04T12:00:02.000000Z"
    assert told(
        decided("isolate", "allow"),
        intent("isolate"),
        outcome("isolate", "failed", error="429"),
        waiting("isolate", phase="retry", until=until, why="429"),
        decided("isolate", "allow"),
        intent("isolate", attempt=2),
        outcome("isolate", "unknown", error="no answer came"),
        ended("isolate", "unknown", code="outcome_unknown", error="it cannot be read back"),
        fact(EntryType.RUN_FINISHED, RUN, {"state": "needs_review"}, {"error": "isolate: not known"}),
        fact(EntryType.RUN_RESOLVED, RUN, {"happened": False}, {"reason": "not seen"}, actor="person:bob"),
    )[1:] == [
        "isolate: sends edr.isolate",
        "isolate: it failed: 429",
        "isolate: waits for another try until 2026-05-04 12:00:02 UTC: 429",
        'isolate: policy allows edr.isolate host="ws-17"',
        "isolate: sends edr.isolate, try 2",
        "isolate: whether it happened is not known: no answer came",
        "isolate: a person must say whether it happened: it cannot be read back [outcome_unknown]",
        ": stops: a person must say what happened (soar runs resolve)",
        "- isolate: not known",
        ": bob says that it did not happen: not seen",
    ]


def test_reading_back_is_told_as_what_was_seen_and_repeats_are_counted() -> None:
    looks = [
        row
        for look in range(3)
        for row in (
            decided(f"isolate.verify[{look}]", "allow"),
            intent(f"isolate.verify[{look}]"),
            outcome(f"isolate.verify[{look}]", "succeeded", result={"isolated": look == 2}),
            ended(f"isolate.verify[{look}]", "succeeded", result={"isolated": look == 2}),
        )
    ]
    assert told(
        outcome("isolate", "succeeded"),
        waiting("isolate", phase="verify", until="2026-05-04T12:05:00.000000Z"),
        *looks,
        ended("isolate", "succeeded"),
    ) == [
        "isolate: it worked",
        "isolate: waits for its effect to be seen until 2026-05-04 12:05:00 UTC",
        "isolate: reads back: isolated=false (x2)",
        "isolate: reads back: isolated=true",
        "isolate: confirmed by reading back",
    ]


def test_an_undo_that_comes_with_the_outcome_does_not_repeat_the_step() -> None:
    scheduled: Data = {"run": "run-2", "use": "edr.release", "after_seconds": 28800}
    by_hand: Data = {"run": "run-3", "use": "edr.release", "after_seconds": 0}
    assert told(
        outcome("isolate", "succeeded"),
        fact(EntryType.UNDO_SCHEDULED, "isolate", scheduled),
        ended("isolate", "succeeded"),
        fact(EntryType.UNDO_SCHEDULED, "isolate", by_hand, actor="person:bob"),
    ) == [
        "isolate: it worked",
        "isolate: will be taken back by edr.release after 8h",
        "- undo run run-2",
        "isolate: bob has it taken back by edr.release",
        "- undo run run-3",
    ]


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (ended("2", "succeeded", kind="if", result="then"), "2: the condition holds"),
        (ended("2", "succeeded", kind="if", result="else"), "2: the condition does not hold"),
        (ended("2", "succeeded", kind="switch", result="case[bad]"), "2: takes case[bad]"),
        (ended("2", "succeeded", kind="foreach", result=[{}]), "2: went through 1 element"),
        (ended("2", "succeeded", kind="parallel"), "2: all branches have ended"),
        (ended("2", "succeeded", kind="set"), "2: sets values"),
        (ended("2", "succeeded", kind="set", result={"who": "merry"}), '2: sets who="merry"'),
        (ended("2", "succeeded", kind="stop", result="enough"), "2: stops here: enough"),
        (ended("2", "succeeded", kind="call", result={"x": 1}), "2: the sub-run succeeded: x=1"),
        (ended("2", "succeeded", kind="wait"), "2: done"),
        (ended("2", "skipped"), "2: skipped: its condition does not hold"),
        (ended("2", "skipped", code="shadow"), "2: not sent: the playbook is in shadow mode"),
        (ended("2", "failed", kind="wait", code="timeout", error="none came"), "2: failed: none came [timeout]"),
        (waiting("2", phase="call", run_id="run-2"), "2: waits for sub-run run-2"),
        (
            waiting("2", phase="time", until="2026-05-04T13:00:00Z"),
            "2: waits for its time until 2026-05-04 13:00:00 UTC",
        ),
        (waiting("2", phase="policy", why="it is away"), "2: waits for a decision of policy: it is away"),
        (waiting("2", phase="begun", until="2026-01-01T10:00:00Z"), "2: has until 2026-01-01 10:00:00 UTC"),
        (waiting("2", phase="halted", why="x"), "2: waits for actions to be let out again (soar resume)"),
        (
            waiting("2", phase="alert", trigger={"match": {"source": {"any_of": ["okta"]}}, "where": "title"}),
            '2: waits for an alert with source={"any_of":["okta"]} where="title"',
        ),
        (
            fact(EntryType.STEP_FINISHED, "2", {"state": "succeeded", "alert": "alert-7"}),
            "2: the awaited alert came: alert-7",
        ),
        (
            fact(EntryType.RUN_RECOVERED, RUN, {"owner": "w", "epoch": 1}, actor="timekeeper"),
            ": worker w went silent; another one goes on",
        ),
        (
            fact(EntryType.RUN_CANCEL_REQUESTED, RUN, payload={"reason": "x"}, actor="person:bob"),
            ": bob asks for the run's end: x",
        ),
        (fact(EntryType.POLICY_LOADED, RUN, {"engine": "opa"}), 'run-1: policy.loaded engine="opa"'),
    ],
)
def test_every_kind_of_step_has_its_words(row: EntryRow, line: str) -> None:
    assert told(row) == [line]


@pytest.mark.parametrize(
    ("data", "payload", "line"),
    [
        ({"kind": "call", "parent": "run-0", "parent_path": "3", "playbook": "notify"}, None,
         ": playbook notify is called by step 3 of run run-0"),
        ({"kind": "undo", "parent": "run-0", "parent_path": "isolate", "playbook": "contain"},
         {"vars": {"use": "edr.release", "params": {"host": "ws-17"}}},
         ': takes back step isolate of run run-0 by edr.release host="ws-17"'),
        ({"kind": "manual", "playbook": "contain"}, None, ": playbook contain is started by hand"),
    ],
)  # fmt: skip
def test_a_run_says_what_started_it(data: Data, payload: dict[str, Any] | None, line: str) -> None:
    assert told(fact(EntryType.RUN_CREATED, RUN, data, payload))[0] == line


def test_what_replay_finds_again_is_told_once_until_a_person_has_it_done_again() -> None:
    step = ended("1", "succeeded", kind="set", result={"x": 1})
    retried = fact(EntryType.RUN_RETRIED, RUN, {"steps": 2}, {"reason": "x"}, actor="person:bob")
    assert told(step, step, retried, step) == [
        "1: sets x=1",
        ": bob has 2 failed or denied steps done again: x",
        "1: sets x=1",
    ]


def test_an_erased_payload_leaves_the_fact_and_says_so() -> None:
    row = fact(EntryType.POLICY_DECIDED, "isolate", {"effect": "deny", "revision": OLD}, {"decision": {}}, erased=True)
    assert told(row) == [
        "isolate: policy aaaaaaaaaaaa denies the action",
        "- the details of this entry were erased",
    ]


def test_lines_carry_their_time_and_their_tone() -> None:
    assert timeline([outcome("isolate", "failed", error="401")]) == [
        Line(at=NOW, path="isolate", text="it failed: 401", tone=Tone.BAD)
    ]


def test_a_leaf_that_was_tampered_with_is_not_told() -> None:
    row = fact(EntryType.RUN_CREATED, RUN, {"kind": "manual"})
    with pytest.raises(JournalError, match="canonical"):
        timeline([EntryRow(**{name: getattr(row, name) for name in row.__slots__} | {"leaf": row.leaf + b" "})])


def approval(state: ApprovalState, **binding: Any) -> Approval:
    needed = Requirement(
        groups=(GroupQuorum(group="soc-lead", min=2),), ttl=timedelta(minutes=30), execution_ttl=timedelta(minutes=5)
    )
    return Approval(
        id="approval-1",
        run_id=RUN,
        path="isolate",
        state=state,
        binding=binding,
        digest=Approval.digest_of(binding),
        requirement=needed,
        requested_at=NOW,
        decide_by=NOW + timedelta(minutes=30),
    )


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (approval(ApprovalState.PENDING), "the consent of 2 of soc-lead until 2026-05-04 12:30:00 UTC (approval-1)"),
        (
            approval(ApprovalState.PENDING, question="Why?"),
            "an answer of 2 of soc-lead until 2026-05-04 12:30:00 UTC (approval-1)",
        ),
        (approval(ApprovalState.GRANTED), "a worker to go on with it: approval-1 is granted"),
    ],
)
def test_a_step_that_waits_for_people_names_them(request_: Approval, words: str) -> None:
    assert awaited({"phase": "approval", "approval_id": "approval-1"}, request_) == words


def test_values_are_cut_and_instants_are_utc() -> None:
    assert brief({"host": "ws-17", "tags": [1, None]}) == 'host="ws-17" tags=[1,null]'
    assert brief("x" * 300, 10) == '"xxxxxxxx…'
    assert moment("2026-05-04T12:00:00.5+02:00") == "2026-05-04 10:00:00 UTC"
    assert quorums([]) == "nobody more"
