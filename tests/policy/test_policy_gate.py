"""The gate fails closed: whatever is not a whole, understood decision of the pinned revision is a denial."""

import asyncio
import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from soar.errors import PolicyError, PolicyUnavailableError
from soar.model.decision import Decision, Verdict
from soar.policy.bundle import Bundle, load_bundle
from soar.policy.embedded import EmbeddedEngine
from soar.policy.gate import Gate
from soar.policy.input import PolicyInput
from soar.policy.port import Answer

from .policy_questions import Ask, CountingIds, Write

WHOLE: dict[str, Any] = {"schema": "soar.decision/v1", "effect": "allow", "controls_evaluated": ["mine"]}
APPROVAL = {"type": "approval", "groups": [{"group": "soc-lead", "min": 1}]}

CONFLICT = """
x := 1 if input.alert.severity == "low"

x := 2 if input.action.verb == "create"
"""


def policy(value: dict[str, Any]) -> str:
    """A bundle that decides well in the rehearsal, and gives `value` for severity low."""
    good, other = json.dumps(WHOLE), json.dumps(value)
    return (
        f'package soar.main\n\ndecision := {good} if input.alert.severity != "low"\n\n'
        f'decision := {other} if input.alert.severity == "low"\n'
    )


async def decide(
    write: Write, ask: Ask, main: str, *, mandatory: Iterable[str] = (), honours: Iterable[str] = ("approval",)
) -> Decision:
    engine = EmbeddedEngine(load_bundle(write(main_rego=main)))
    try:
        gate = Gate(engine, mandatory_controls=mandatory, ids=CountingIds(), honours=honours)
        return await gate.decide(ask("ticket.create", severity="low").document())
    finally:
        await engine.close()


def refused(decision: Decision, code: str) -> str:
    """A denial by the gate itself; gives the message."""
    assert decision.effect is Verdict.DENY
    assert decision.controls_evaluated == ("gate",)
    assert decision.obligations == ()
    (reason,) = decision.reasons
    assert (reason.code, reason.control) == (f"gate.{code}", "gate")
    return reason.msg


async def test_a_whole_decision_passes_with_who_gave_it_on_what(write: Write, ask: Ask) -> None:
    decision = await decide(write, ask, policy(WHOLE), mandatory=["mine"])
    assert decision.effect is Verdict.ALLOW
    assert decision.id == "decision-1"
    assert decision.engine == "embedded"
    assert len(decision.revision) == 64


async def test_undefined_is_a_denial(write: Write, ask: Ask) -> None:
    main = policy(WHOLE).replace('input.alert.severity == "low"', "false")
    assert "undefined" in refused(await decide(write, ask, main), "undefined")


async def test_a_policy_that_fails_on_an_input_is_a_denial(write: Write, ask: Ask) -> None:
    """Two values for one rule: OPA and the embedded engine both stop there."""
    main = policy(WHOLE).replace('if input.alert.severity == "low"', "if x == 1") + CONFLICT
    assert "failed on this input" in refused(await decide(write, ask, main), "fault")


@pytest.mark.parametrize(
    "change",
    [
        {"effect": "maybe"},
        {"effect": None},
        {"schema": "soar.decision/v2"},
        {"obligations": [{"type": "pay", "amount": 5}]},
        {"obligations": [{"type": "approval", "groups": []}]},
        {"obligations": [{**APPROVAL, "unless": "friday"}]},
        {"reasons": ["because"]},
        {"allow": True},
        {"controls_evaluated": None},
    ],
)
async def test_a_document_that_is_not_wholly_understood_is_a_denial(
    write: Write, ask: Ask, change: dict[str, Any]
) -> None:
    assert "no decision document" in refused(await decide(write, ask, policy({**WHOLE, **change})), "invalid")


async def test_a_mandatory_control_that_took_no_part_is_a_denial(write: Write, ask: Ask) -> None:
    """A deny set is empty when a builtin in it failed; its control does not list itself then."""
    silent = policy({**WHOLE, "controls_evaluated": ["other"]})
    assert "mine" in refused(await decide(write, ask, silent, mandatory=["mine", "other"]), "control_missing")


async def test_an_obligation_that_nobody_carries_out_is_a_denial(write: Write, ask: Ask) -> None:
    expiring = policy({**WHOLE, "obligations": [{"type": "expire", "after": "4h"}]})
    assert "expire" in refused(await decide(write, ask, expiring), "obligation")
    assert (await decide(write, ask, expiring, honours=["approval", "expire"])).effect is Verdict.ALLOW


@pytest.mark.parametrize(
    "change",
    [{"effect": "require_approval"}, {"effect": "allow", "obligations": [APPROVAL]}],
)
async def test_an_effect_that_contradicts_its_obligations_is_a_denial(
    write: Write, ask: Ask, change: dict[str, Any]
) -> None:
    refused(await decide(write, ask, policy({**WHOLE, **change})), "contradiction")


async def test_a_denial_needs_no_obligations_and_keeps_its_reasons(write: Write, ask: Ask) -> None:
    reason = {"code": "mine.no", "control": "mine", "msg": "no"}
    decision = await decide(
        write, ask, policy({**WHOLE, "effect": "deny", "reasons": [reason], "obligations": [APPROVAL]})
    )
    assert decision.effect is Verdict.DENY
    assert [r.code for r in decision.reasons] == ["mine.no"]


async def test_an_input_that_json_cannot_say_is_a_denial(engine: EmbeddedEngine, ask: Ask, ids: CountingIds) -> None:
    gate = Gate(engine, mandatory_controls=(), ids=ids)
    for value in (float("nan"), float("inf"), 2**60):
        refused(await gate.decide(ask("ticket.create", action={"params": {"n": value}}).document()), "input")


async def test_an_input_too_deep_for_the_engine_is_a_denial(engine: EmbeddedEngine, ask: Ask, ids: CountingIds) -> None:
    deep: Any = 1
    for _ in range(150):
        deep = [deep]
    gate = Gate(engine, mandatory_controls=(), ids=ids)
    refused(await gate.decide(ask("ticket.create", action={"params": {"n": deep}}).document()), "fault")


class Moved:
    """An engine whose server loads another bundle after the gate was built on it: a real engine, one field apart."""

    name = "moved"

    def __init__(self, engine: EmbeddedEngine) -> None:
        self.engine = engine
        self.revision = engine.revision

    async def evaluate(self, document: dict[str, Any]) -> Answer:
        return (await self.evaluate_many([document]))[0]

    async def evaluate_many(self, documents: Sequence[dict[str, Any]]) -> list[Answer]:
        return [Answer("another", answer.value) for answer in await self.engine.evaluate_many(documents)]

    async def close(self) -> None:
        await self.engine.close()


async def test_an_answer_of_another_revision_is_a_denial(engine: EmbeddedEngine, ask: Ask, ids: CountingIds) -> None:
    message = refused(
        await Gate(Moved(engine), mandatory_controls=(), ids=ids).decide(ask("ticket.create").document()), "revision"
    )
    assert "another" in message
    assert engine.revision in message


async def test_no_answer_is_no_decision(starters: Bundle, ask: Ask, ids: CountingIds) -> None:
    """The run parks: neither an allow nor a denial is recorded."""
    engine = EmbeddedEngine(starters)
    gate = Gate(engine, mandatory_controls=starters.mandatory_controls, ids=ids)
    await engine.close()
    with pytest.raises(PolicyUnavailableError):
        await gate.decide(ask("ticket.create").document())
    assert ids.last == 0


async def test_many_questions_get_their_own_decisions_in_order(
    starters: Bundle, engine: EmbeddedEngine, ask: Ask, ids: CountingIds
) -> None:
    """Also around one that cannot be asked."""
    gate = Gate(engine, mandatory_controls=starters.mandatory_controls, ids=ids)
    unaskable = ask("ticket.create", action={"params": {"n": float("nan")}})
    questions: list[PolicyInput] = [ask("host.isolate", "host:dc-01"), unaskable, ask("host.isolate", "host:ws-1")]
    decisions = await gate.decide_many([question.document() for question in questions])
    assert [d.effect for d in decisions] == [Verdict.DENY, Verdict.DENY, Verdict.ALLOW]
    assert [d.reasons[0].code for d in decisions[:2]] == ["protected.asset", "gate.input"]


async def test_a_replaced_engine_decides_what_it_was_asked_and_nothing_after(starters: Bundle, ask: Ask) -> None:
    """The next question is the new engine's alone; a decision is never half of each."""
    asked, go = asyncio.Event(), asyncio.Event()

    class Slow(EmbeddedEngine):
        async def evaluate(self, document: dict[str, Any]) -> Answer:
            asked.set()
            await go.wait()
            return await super().evaluate(document)

    before, after = Slow(starters), EmbeddedEngine(dataclasses.replace(starters, revision="next"))
    gate = Gate(before, mandatory_controls=starters.mandatory_controls, ids=CountingIds())
    question = ask("host.isolate", "host:ws-1").document()
    under_way = asyncio.create_task(gate.decide(question))
    await asked.wait()
    assert gate.replace(after, mandatory_controls=["not evaluated"]) is before
    changed = await gate.decide(question)
    go.set()
    unchanged = await under_way
    assert (unchanged.effect, unchanged.revision) == ("allow", starters.revision)
    assert (changed.effect, changed.revision) == ("deny", "next")
    assert [reason.code for reason in changed.reasons] == ["gate.control_missing"]
    assert gate.revision == "next"
    await before.close()
    await gate.close()


@pytest.mark.parametrize(
    ("rego", "says"),
    [
        ("x if input.alrt.id", "slip.rego:3:6: nothing at input.alrt, .* did you mean 'alert'"),
        ("x {\n\tinput.halted\n}", "slip.rego:3:3: .*this is Rego v0; write `name if"),
        ('x if http.send({"url": "http://a"})', "slip.rego:3:6: http.send .* what a rule needs comes as input"),
    ],
)
async def test_a_slip_is_refused_with_its_place_and_what_runs_stays_in_force(
    write: Write, ask: Ask, rego: str, says: str
) -> None:
    folder = write()
    bundle = load_bundle(folder)
    gate = Gate(EmbeddedEngine(bundle), mandatory_controls=bundle.mandatory_controls, ids=CountingIds())
    (folder / "slip.rego").write_text(f"package soar.slip\n\n{rego}\n")
    with pytest.raises(PolicyError, match=says):
        load_bundle(folder)
    decision = await gate.decide(ask("ticket.create").document())
    assert (decision.effect, decision.revision) == ("allow", bundle.revision)
    await gate.close()
