"""What a reason rests on: found by asking again, so that it holds for any bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from soar.model.decision import Reason
from soar.policy.bundle import Bundle, load_bundle
from soar.policy.grounds import Grounds, Inquiry, essential
from soar.policy.input import Count, Counters, PolicyInput

from .policy_questions import DECISION, ROOT, Ask, Write

POLICIES = ROOT / "policies"


def grounds(bundle: Bundle, question: PolicyInput, folder: Path = POLICIES) -> list[Grounds]:
    inquiry = Inquiry(bundle, folder, question.document())
    decision = inquiry.decision()
    assert decision is not None
    found = [inquiry.grounds(Reason.model_validate(reason)) for reason in decision["reasons"]]
    return [each for each in found if each is not None]


def words(found: Grounds) -> dict[str, str]:
    return {".".join(map(str, each.path)): f"{each.words}: {each.effect}" for each in found.otherwise}


def test_a_protected_asset_names_the_prefix_that_knows_it_and_its_line(starters: Bundle, ask: Ask) -> None:
    (found,) = grounds(starters, ask("host.isolate", "host:dc-07"))
    (prefix,) = [each for each in found.data if "prefixes" in each.path]
    assert (prefix.path, prefix.value) == (("assets", "protected", "domain controllers", "prefixes", 0), "dc-")
    assert prefix.place is not None
    line = Path(prefix.place.file).read_text().splitlines()[prefix.place.line - 1]
    assert line[prefix.place.column - 1 :].startswith("dc-")
    assert found.rule is not None
    assert found.rule.file.endswith("controls/protected.rego")
    assert words(found)["action.targets.0.names.0"] == "not dc-07: allow"


def test_a_limit_says_from_which_count_on_it_would_not_hold(starters: Bundle, ask: Ask) -> None:
    counted = Counters(target={"host:ws-1": Count(hour=9, day=9)})
    (found,) = grounds(starters, ask("host.isolate", "host:ws-1", counters=counted))
    assert [(each.path, each.value) for each in found.data] == [(("limits", "target", "hour"), 5)]
    assert words(found)["counters.target.host:ws-1.hour"] == "4 or less: allow"


def test_what_people_are_asked_for_names_the_cell_and_the_severities_that_need_none(starters: Bundle, ask: Ask) -> None:
    (found,) = grounds(starters, ask("host.isolate", "host:ws-1", severity="medium"))
    assert ("matrix", "contain", "medium") in [each.path for each in found.data]
    assert words(found)["alert.severity"] == "high or critical: allow"


def test_a_confidence_says_how_much_would_be_enough(starters: Bundle, ask: Ask) -> None:
    (found,) = grounds(starters, ask("host.isolate", "host:ws-1", confidence=12))
    assert words(found)["alert.confidence"] == "40 or more: allow"


def test_each_of_two_reasons_has_grounds_of_its_own_and_neither_alone_is_enough(starters: Bundle, ask: Ask) -> None:
    counted = Counters(connector={"lab_host": Count(hour=60, day=60)})
    found = grounds(starters, ask("host.isolate", "host:dc-01", counters=counted))
    assert [each.reason.control for each in found] == ["blast_radius", "protected"]
    assert words(found[0])["counters.connector.lab_host.hour"] == "59 or less: deny"


def test_a_bundle_without_controls_is_explained_by_its_decision(write: Write, ask: Ask) -> None:
    text = DECISION.replace('"allow"', "effect").replace('"controls', '"reasons": reasons, "controls')
    rules = """
default effect := "allow"

effect := "deny" if count(reasons) > 0

reasons contains {"code": "own.no", "control": "own", "msg": "no"} if input.action.verb in data.verbs.denied
"""
    folder = write(main_rego=text + rules, data__verbs_yaml="denied: [delete, create]\n")
    (found,) = grounds(load_bundle(folder), ask("ticket.create"), folder)
    assert [(each.path, each.value) for each in found.data] == [(("verbs", "denied", 1), "create")]
    assert words(found) == {"action.verb": "not create: allow"}


def test_a_reason_that_the_bundle_does_not_give_has_no_grounds(starters: Bundle, ask: Ask) -> None:
    inquiry = Inquiry(starters, POLICIES, ask("ticket.create").document())
    assert inquiry.grounds(Reason(code="matrix.severity", control="matrix", msg="x")) is None


def test_what_is_allowed_says_which_single_field_would_end_that(starters: Bundle, ask: Ask) -> None:
    found = {each.path: f"{each.words}: {each.effect}" for each in _differences(starters, ask)}
    assert found["alert", "severity"] == "informational or low or medium: require_approval"
    assert found["halted",] == "true: deny"


def _differences(starters: Bundle, ask: Ask) -> Any:
    return Inquiry(starters, POLICIES, ask("host.isolate", "host:ws-1").document()).differences()


@pytest.mark.parametrize(
    ("needed", "found"),
    [
        (lambda d: 7 in d["a"], [("a", 7)]),
        (lambda d: d["b"].get("x") == 1, [("b", "x")]),
        (lambda d: 7 in d["a"] and "x" in d["b"], [("a", 7), ("b", "x")]),
        (lambda d: 3 in d["a"] or 4 in d["a"], [("a",)]),  # they stand in for each other
        (lambda _: True, []),
    ],
)
def test_the_smallest_parts_without_which_something_is_not_so(needed: Any, found: list[Any]) -> None:
    def holds(document: Any) -> bool:
        try:
            return bool(needed(document))
        except KeyError:
            return False

    assert essential({"a": list(range(10)), "b": {"x": 1, "y": 2}}, holds) == found
