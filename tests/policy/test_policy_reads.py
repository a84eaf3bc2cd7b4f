"""What a bundle reads, and what the embedded engine therefore need not be asked twice."""

import pytest

from soar.errors import PolicyUnavailableError
from soar.policy.bundle import Bundle, load_bundle
from soar.policy.embedded import EmbeddedEngine

from .policy_questions import DECISION, Ask, Write

READS = {
    "input.alert.severity": {("alert", "severity")},
    "input.counters[scope].x": {("counters",)},
    'input["alert"].severity': {("alert", "severity")},
    "input.action.targets[0].names": {("action", "targets")},
    "[input.alert, input.alert.severity]": {("alert",)},
    "input.action.params[input.run.id]": {("action", "params"), ("run", "id")},
    'object.get(input, "run", {})': {()},
    "whole.alert": {("alert",)},
}  # fmt: skip


@pytest.mark.parametrize("expression", READS)
def test_what_rules_name_is_what_a_decision_can_depend_on(write: Write, expression: str) -> None:
    rules = f'\nscope := "connector"\n\nread if {expression}\n'
    main = DECISION.replace("package soar.main\n", "package soar.main\n\nimport input as whole\n") + rules
    assert load_bundle(write(main_rego=main)).reads == READS[expression]


def test_what_tests_name_is_not_read(write: Write) -> None:
    folder = write(main_test_rego="package soar.tests\n\ntest_x if input.alert.id\n")
    assert load_bundle(folder).reads == set()


async def test_a_question_that_differs_only_in_what_no_rule_reads_is_answered_from_memory(
    starters: Bundle, engine: EmbeddedEngine, ask: Ask
) -> None:
    assert ("run", "id") not in starters.reads
    plain = ask("ticket.create", "host:ws-1")
    first = await engine.evaluate(plain.document())
    other_run = plain.model_copy(update={"run": plain.run.model_copy(update={"id": "run-2"})})
    assert await engine.evaluate(other_run.document()) is first
    one_more = plain.model_copy(update={"run": plain.run.model_copy(update={"attempt": 2})})
    assert await engine.evaluate(one_more.document()) is not first


async def test_counters_votes_and_time_are_never_taken_from_memory(engine: EmbeddedEngine, ask: Ask) -> None:
    """The decisions differ only in what changed a moment ago."""
    document = ask("host.isolate", "host:ws-1").document()
    full = document | {"counters": document["counters"] | {"target": {"host:ws-1": {"hour": 999, "day": 999}}}}
    assert (await engine.evaluate(document)).value["effect"] == "allow"
    assert (await engine.evaluate(full)).value["effect"] == "deny"
    late = document | {"time": document["time"] | {"business_hours": False}}
    assert await engine.evaluate(late) is not await engine.evaluate(document)


async def test_a_fault_is_met_anew_each_time(write: Write, ask: Ask) -> None:
    rules = '\neffect := "allow" if input.alert.severity == "low"\n\neffect := "deny"\n'
    engine = EmbeddedEngine(load_bundle(write(main_rego=DECISION.replace('"allow"', "effect") + rules)))
    document = ask("ticket.create", severity="low").document()
    answers = [await engine.evaluate(document) for _ in range(2)]
    await engine.close()
    assert all(answer.fault for answer in answers)
    assert answers[0] is not answers[1]


async def test_a_closed_engine_remembers_nothing(starters: Bundle, ask: Ask) -> None:
    engine = EmbeddedEngine(starters)
    document = ask("ticket.create").document()
    await engine.evaluate(document)
    await engine.close()
    with pytest.raises(PolicyUnavailableError):
        await engine.evaluate(document)
