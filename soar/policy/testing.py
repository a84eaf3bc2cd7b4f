"""`soar policy test`: the rules named `test_*` in `*_test.rego`, run on the embedded engine, and what they cover.

The same files run under `opa test` (on a folder that `Bundle.export` wrote); a test passes when its rule is
true, and fails when it is anything else or undefined.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from soar.errors import Place, PolicyError
from soar.model.base import Frozen
from soar.policy.bundle import Bundle, load_bundle
from soar.policy.dialect import Source
from soar.policy.rego import EngineFault, evaluate, new_engine


class Outcome(StrEnum):
    """How one test ended."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"  # the engine could not run it


class RuleResult(Frozen):
    """One test: its full name, `file:line:col`, and what the engine said where it could not run it."""

    name: str
    place: str
    outcome: Outcome
    message: str | None = None


class FileCoverage(Frozen):
    """How much of one module the tests ran."""

    file: str
    covered: int
    missed: tuple[int, ...]  # line numbers

    @property
    def percent(self) -> float:
        """Lines with code that ran, of all lines with code."""
        total = self.covered + len(self.missed)
        return 100 * self.covered / total if total else 100.0


class PolicyReport(Frozen):
    """What a test run found."""

    revision: str
    results: tuple[RuleResult, ...]
    coverage: tuple[FileCoverage, ...]

    @property
    def passed(self) -> bool:
        """Whether there were tests, and all passed."""
        return bool(self.results) and all(result.outcome is Outcome.PASSED for result in self.results)

    @property
    def percent(self) -> float:
        """Coverage over all modules."""
        covered = sum(file.covered for file in self.coverage)
        total = covered + sum(len(file.missed) for file in self.coverage)
        return 100 * covered / total if total else 100.0


def run_tests(folder: Path) -> PolicyReport:
    """Load the bundle in a folder and run its tests; raises `PolicyError` where it does not load."""
    bundle = load_bundle(folder)
    modules = (*bundle.modules, *bundle.tests)
    engine = new_engine(modules, bundle.data_json, coverage=True)
    trees = {item["source"]["file"]: item["ast"] for item in orjson.loads(engine.get_ast_as_json())}
    results = []
    for source in (Source(module, trees[module.path]) for module in bundle.tests):
        for rule, place in source.places().items():
            if rule.startswith("test_"):
                name = ".".join(("data", *source.package, rule))
                outcome, message = _run(engine, name)
                results.append(RuleResult(name=name, place=str(place), outcome=outcome, message=message))
    coverage = _coverage(bundle, orjson.loads(engine.get_coverage_report_as_json()))
    return PolicyReport(revision=bundle.revision, results=tuple(results), coverage=coverage)


def proven(folder: Path) -> Bundle:
    """The bundle in a folder, fit to come into force while runs are under way: it loads, and its tests pass.

    Raises `PolicyError` with place and remedy where it is not.
    """
    bundle, report = load_bundle(folder), run_tests(folder)
    if report.revision != bundle.revision:
        raise PolicyError("changed while it was read; try again once nobody writes to it", Place(str(folder)))
    if not report.results:
        remedy = "write rules named test_* in a *_test.rego; without tests only a restart takes it"
        raise PolicyError(f"has no tests; {remedy}", Place(str(folder)))
    failed = [result for result in report.results if result.outcome is not Outcome.PASSED]
    if failed:
        file, line, column = failed[0].place.rsplit(":", 2)
        many = f" ({len(failed)} of {len(report.results)} tests do)" if len(failed) > 1 else ""
        message = f"{failed[0].name.removeprefix('data.')} fails{many}; run: soar policy test {folder}"
        raise PolicyError(message, Place(file, int(line), int(column)))
    return bundle


def _run(engine: Any, name: str) -> tuple[Outcome, str | None]:
    try:
        _, value = evaluate(engine, name, b"{}")
    except EngineFault as fault:
        return Outcome.ERROR, str(fault)
    return (Outcome.PASSED, None) if value is True else (Outcome.FAILED, None)


def _coverage(bundle: Bundle, report: dict[str, Any]) -> tuple[FileCoverage, ...]:
    files = {module.path: module.file for module in bundle.modules}
    return tuple(
        FileCoverage(file=files[item["path"]], covered=len(item["covered"]), missed=tuple(item["not_covered"]))
        for item in sorted(report["files"], key=lambda item: str(item["path"]))
        if item["path"] in files
    )
