"""The embedded engine: one thread, ready when built, never late without saying so."""

import asyncio
import gc
import threading

import pytest

from soar.errors import PolicyError, PolicyUnavailableError
from soar.policy.bundle import Bundle, load_bundle
from soar.policy.embedded import EmbeddedEngine
from soar.policy.port import UNDEFINED

from .policy_questions import DECISION, Ask, Write

SLOW = """
package soar.main

decision := {"schema": "soar.decision/v1", "effect": "allow", "controls_evaluated": ["mine"], "warnings": work}

work := [] if input.run.id != "slow"

work := some_work if {
	input.run.id == "slow"
    some_work := ["never" |
        some a in numbers.range(1, 300)
        some b in numbers.range(1, 300)
        a * b < 0
    ]
}
"""

NULL = """
decision := good if input.run.id != "x"

decision := null if input.run.depth == 9
"""


def threads() -> int:
    return sum(thread.name == "soar-policy" for thread in threading.enumerate())


async def test_answers_come_from_one_thread_that_ends_with_the_engine(starters: Bundle, ask: Ask) -> None:
    assert threads() == 0
    engine = EmbeddedEngine(starters)
    assert threads() == 1
    documents = [ask("host.isolate", f"host:ws-{n}").document() for n in range(20)]
    answers = await asyncio.gather(*(engine.evaluate(document) for document in documents))
    assert {answer.value["effect"] for answer in answers} == {"allow"}
    assert {answer.revision for answer in answers} == {starters.revision}
    assert threads() == 1
    await engine.close()
    assert threads() == 0


async def test_an_engine_that_is_forgotten_ends_its_thread(starters: Bundle) -> None:
    engine = EmbeddedEngine(starters)
    thread = engine._thread
    del engine
    gc.collect()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


async def test_a_late_answer_is_no_answer_and_the_next_question_is_served(write: Write, ask: Ask) -> None:
    bundle = load_bundle(write(main_rego=SLOW))
    slow = ask("ticket.create", run={"id": "slow"}).document()
    impatient = EmbeddedEngine(bundle, timeout_seconds=0.001)
    with pytest.raises(
        PolicyUnavailableError, match=r"gave no answer to 1 questions within 0\.001 s; nothing was sent"
    ):
        await impatient.evaluate(slow)
    await impatient.close()
    patient = EmbeddedEngine(bundle, timeout_seconds=60)
    assert (await patient.evaluate(slow)).value["effect"] == "allow"
    await patient.close()


async def test_a_question_whose_asker_is_gone_is_not_evaluated(write: Write, ask: Ask) -> None:
    """Cancelling one question leaves the engine fit for the next."""
    engine = EmbeddedEngine(load_bundle(write(main_rego=SLOW)), timeout_seconds=60)
    slow = asyncio.create_task(engine.evaluate(ask("ticket.create", run={"id": "slow"}).document()))
    waiting = asyncio.create_task(engine.evaluate(ask("ticket.create").document()))
    await asyncio.sleep(0)
    waiting.cancel()
    assert (await slow).value["effect"] == "allow"
    assert waiting.cancelled()
    assert (await engine.evaluate(ask("ticket.create").document())).value["effect"] == "allow"
    await engine.close()


async def test_a_closed_engine_says_so(starters: Bundle, ask: Ask) -> None:
    engine = EmbeddedEngine(starters)
    await engine.close()
    await engine.close()
    with pytest.raises(PolicyUnavailableError, match="is closed"):
        await engine.evaluate(ask("ticket.create").document())


async def test_undefined_is_told_from_null(write: Write, ask: Ask) -> None:
    main = DECISION.replace("decision :=", "good :=") + NULL
    engine = EmbeddedEngine(load_bundle(write(main_rego=main)))
    assert (await engine.evaluate(ask("ticket.create", run={"id": "x"}).document())).value is UNDEFINED
    assert (await engine.evaluate(ask("ticket.create", run={"id": "x", "depth": 9}).document())).value is None
    await engine.close()


def test_a_bundle_that_does_not_compile_builds_no_engine() -> None:
    """Bundles are checked when loaded; this is the second lock."""
    broken = Bundle(revision="r", modules=(), tests=(), data={}, mandatory_controls=frozenset())
    with pytest.raises(PolicyError):
        EmbeddedEngine(broken)
