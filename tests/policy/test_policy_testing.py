"""`soar policy test`: which test ended how, where, and what was not covered."""

from soar.policy.testing import Outcome, run_tests

from .policy_questions import Write

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
