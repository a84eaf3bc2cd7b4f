"""`soar policy test`: which test ended how, where, and what was not covered."""

import re
import shutil
from pathlib import Path

from soar.policy.bundle import load_bundle
from soar.policy.testing import Outcome, run_tests

from .policy_questions import ROOT, Write

TESTS = """
package soar.tests

import data.soar.main

test_true if main.decision.effect == "allow"

test_false if main.decision.effect == "deny"

test_is_not_true := 1

test_broken if {
	x := data.soar.rule.twice
	x == 1
}

not_a_test if false
"""
RULE = """
package soar.rule

twice := 1

twice := 2 if input == {}

unused if {
	input.halted
}
"""


def test_a_report_names_each_test_its_place_and_its_end(write: Write) -> None:
    folder = write(rule_rego=RULE, main_test_rego=TESTS)
    report = run_tests(folder)
    assert not report.passed
    results = {result.name.rpartition(".")[2]: result for result in report.results}
    assert {name: result.outcome for name, result in results.items()} == {
        "test_true": Outcome.PASSED,
        "test_false": Outcome.FAILED,
        "test_is_not_true": Outcome.FAILED,
        "test_broken": Outcome.ERROR,
    }
    assert results["test_false"].place == f"{folder}/main_test.rego:7:1"
    assert results["test_broken"].message is not None


def test_coverage_names_the_lines_that_did_not_run(write: Write) -> None:
    report = run_tests(write(rule_rego=RULE, main_test_rego=TESTS))
    files = {coverage.file.rpartition("/")[2]: coverage for coverage in report.coverage}
    assert files["rule.rego"].missed == (8,)
    assert files["main.rego"].missed == ()
    assert files["rule.rego"].percent < 100
    assert files["main.rego"].percent == 100


def test_no_tests_are_no_pass(write: Write) -> None:
    report = run_tests(write())
    assert report.results == ()
    assert not report.passed


def test_the_starters_tests_hold_whatever_their_data_says(tmp_path: Path) -> None:
    """Who edits data need not edit tests: only so can a changed limit be promoted."""
    folder = Path(shutil.copytree(ROOT / "policies", tmp_path / "policies"))
    for name, edits in EDITS.items():
        path = folder / "data" / f"{name}.yaml"
        text = path.read_text()
        for old, new in edits.items():
            text, count = re.subn(old, new, text)
            assert count, (name, old)
        path.write_text(text)
    report = run_tests(folder)
    assert [result.name for result in report.results if result.outcome is not Outcome.PASSED] == []
    assert report.revision != load_bundle(ROOT / "policies").revision


EDITS = {
    "limits": {r"\d+": "1"},
    "matrix": {": allow": ": two_people", ": approval": ": deny"},
    "assets": {r"names: .*": "names: []", r"prefixes: .*": "prefixes: []"},
    "allowlist": {r"otherwise: .*": "otherwise: []"},
    "halt": {"active: false": "active: true"},
    "networks": {r"  - 1.*\n": ""},
    "approvals": {"30m": "5m", "soc-lead: 1": "soc-lead: 2"},
    "freezes": {
        r"\nwindows: .*": "\nwindows: [{name: x, from: 2020-01-01T00:00:00Z, to: 2030-01-01T00:00:00Z}]",
        "contain: allow": "contain: deny",
    },
}
