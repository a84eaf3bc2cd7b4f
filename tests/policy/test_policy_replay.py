"""Journalled questions asked again: what flips, what is decided only once, and what cannot be decided at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from soar.model.decision import Decision, Reason, Verdict
from soar.policy.bundle import Bundle, load_bundle
from soar.policy.input import PolicyInput
from soar.policy.replay import PAGE, Backtest, Flip, Past, UndecidableError, read_past

from .policy_questions import DECISION, Ask, Write

BY_RISK = DECISION.replace('"allow"', "effect") + '\ndefault effect := "allow"\n\n'
LEAF = {"at": "2026-01-05T12:00:00.000000Z", "run": "run-1", "subject": "isolate"}


def decision(effect: str = "allow", *codes: str, **more: Any) -> dict[str, Any]:
    reasons = tuple(Reason(code=code, control=code.partition(".")[0], msg="because") for code in codes)
    made = Decision(id="decision-1", effect=Verdict(effect), reasons=reasons, engine="embedded", revision="old")
    return {**made.model_dump(mode="json"), **more}


def payload(question: PolicyInput, decided: dict[str, Any]) -> bytes:
    return orjson.dumps({"decision": decided, "input": question.document()})


def past(question: PolicyInput, decided: dict[str, Any] | None = None, index: int = 0) -> Past:
    return read_past(LEAF, payload(question, decided or decision()), index=index)


def flips(bundle: Bundle, *pasts: Past) -> list[Flip]:
    return list(Backtest(bundle, honours=("approval",)).flips(pasts))


def test_a_decision_that_would_be_another_is_a_flip_with_both_reasons(starters: Bundle, ask: Ask) -> None:
    (flip,) = flips(starters, past(ask("host.isolate", "host:dc-01")), past(ask("host.isolate", "host:ws-1")))
    assert (flip.kind, flip.stricter, flip.looser) == ("allow->deny", True, False)
    assert flip.controls == ("protected",)
    assert flip.new.reasons[0][0] == "protected.asset"
    assert flip.past.action == "lab_host.isolate dc-01"


def test_a_denial_that_goes_away_is_looser_and_names_the_control_that_said_it(starters: Bundle, ask: Ask) -> None:
    (flip,) = flips(starters, past(ask("host.isolate", "host:ws-1"), decision("deny", "blast_radius.target_hour")))
    assert (flip.kind, flip.stricter, flip.looser, flip.controls) == ("deny->allow", False, True, ("blast_radius",))


def test_other_reasons_for_the_same_are_no_flip(starters: Bundle, ask: Ask) -> None:
    assert flips(starters, past(ask("host.isolate", "host:dc-01"), decision("deny", "matrix.severity"))) == []


def test_other_people_are_a_flip_that_is_stricter_and_looser(starters: Bundle, ask: Ask) -> None:
    asked = {"type": "approval", "groups": [{"group": "interns", "min": 1}], "distinct": True, "exclude": []}
    decided = decision("require_approval", "matrix.severity", obligations=[asked])
    (flip,) = flips(starters, past(ask("host.isolate", "host:ws-1", severity="low"), decided))
    assert (flip.kind, flip.stricter, flip.looser) == ("ask->ask", True, True)
    assert (flip.past.ruling.people, flip.new.people) == ("1 of interns", "1 of soc-lead")


def test_the_gate_has_the_last_word_here_too(write: Write, ask: Ask) -> None:
    """A candidate that names an obligation that nobody carries out would deny, whatever effect it writes."""
    text = DECISION.replace('"controls', '"obligations": [{"type": "notify", "group": "g", "msg": "m"}], "controls')
    (flip,) = flips(load_bundle(write(main_rego=text)), past(ask("ticket.create")))
    assert (flip.kind, flip.new.reasons[0][0]) == ("allow->deny", "gate.obligation")


def test_questions_that_rules_cannot_tell_apart_are_decided_once(write: Write, ask: Ask) -> None:
    bundle = load_bundle(write(main_rego=BY_RISK + 'effect := "deny" if input.action.risk == "contain"\n'))
    replay = Backtest(bundle, honours=())
    asked = [ask(verb, f"host:ws-{number}") for number in range(40) for verb in ("host.isolate", "host.status")]
    found = list(replay.flips(past(each, index=number) for number, each in enumerate(asked)))
    assert [flip.past.index for flip in found] == list(range(0, 80, 2))
    assert (replay.decided, replay.distinct) == (80, 2)


def test_processes_find_what_one_finds_in_the_order_of_the_journal(write: Write, ask: Ask) -> None:
    bundle = load_bundle(write(main_rego=BY_RISK + 'effect := "deny" if input.alert.confidence == 7\n'))
    asked = [past(ask("ticket.create", confidence=number % 50), index=number) for number in range(2 * PAGE + 500)]
    replay = Backtest(bundle, honours=(), processes=2)
    found = [flip.past.index for flip in replay.flips(asked)]
    assert found == list(range(7, len(asked), 50))
    assert replay.decided == len(asked)


def test_no_more_than_a_page_is_read_ahead(starters: Bundle, ask: Ask) -> None:
    read = 0

    def reading() -> Iterator[Past]:
        nonlocal read
        for number in range(5 * PAGE):
            read += 1
            yield past(ask("host.isolate", "host:dc-01"), index=number)

    assert next(Backtest(starters, honours=()).flips(reading())).past.index == 0
    assert read <= 2 * PAGE


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        (None, "its payload was erased"),
        (b"{", "its payload is no decision"),
        (b'{"decision": {}, "input": {}}', "its payload is no decision"),
    ],
)
def test_what_cannot_be_decided_again_says_why(kept: bytes | None, why: str) -> None:
    with pytest.raises(UndecidableError, match=why):
        read_past(LEAF, kept, index=0)


def test_an_archive_that_is_not_here_an_older_input_and_a_number_that_was_lost_say_so(ask: Ask) -> None:
    with pytest.raises(UndecidableError, match="archive file is not here"):
        read_past(LEAF, None, index=0, away=True)
    older = {**ask("ticket.create").document(), "schema": "soar.input/v0"}
    with pytest.raises(UndecidableError, match=r"asked as soar\.input/v0"):
        read_past(LEAF, orjson.dumps({"decision": decision(), "input": older}), index=0)
    with pytest.raises(UndecidableError, match="number"):
        read_past(LEAF, payload(ask("ticket.create"), decision("deny", "gate.input")), index=0)
