"""Policy tests on the `opa` program, so that nobody has to believe our engine about their policies.

https://www.openpolicyagent.org/docs/policy-testing: `opa test --format json` prints the results, and with
`--coverage` the coverage instead, so it is run twice. It measures coverage only where every test passes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from soar.errors import ConfigError, PolicyError, PolicyUnavailableError
from soar.policy.bundle import load_bundle
from soar.policy.testing import FileCoverage, Outcome, PolicyReport, RuleResult

_SECONDS = 120


def opa_tests(folder: Path, program: str = "opa") -> PolicyReport:
    """The same report as the embedded engine's; raises PolicyError, and ConfigError where there is no `opa`."""
    found = shutil.which(program)
    if found is None:
        raise ConfigError(f"there is no program {program!r}; install OPA 1.21.3 or newer, or name it with --opa")
    bundle = load_bundle(folder)
    with tempfile.TemporaryDirectory(prefix="soar-policy-") as exported:
        bundle.export(Path(exported))
        results = _ask(found, exported)
        passed = bool(results) and not any(item.get("fail") or item.get("error") for item in results)
        coverage = _ask(found, exported, "--coverage") if passed else {}
    files = {module.path: module.file for module in bundle.modules}
    rows: dict[str, Any] = {_path(name): rows for name, rows in coverage.get("files", {}).items()}
    return PolicyReport(
        revision=bundle.revision,
        results=tuple(_result(item, folder) for item in sorted(results, key=_order)),
        coverage=tuple(
            FileCoverage(file=file, covered=len(_lines(rows[path], "covered")), missed=_missed(rows[path]))
            for path, file in sorted(files.items())
            if path in rows
        ),
    )


def _ask(program: str, folder: str, *options: str) -> Any:
    command = [program, "test", "--bundle", ".", "--format", "json", *options]
    try:
        ended = subprocess.run(  # noqa: S603 - the program that the person named
            command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise PolicyUnavailableError(f"{program} did not run the tests: {failure}") from failure
    try:
        answer = json.loads(ended.stdout or "[]")
    except ValueError as failure:
        raise PolicyUnavailableError(f"{program} printed something that is not JSON: {ended.stdout:.200}") from failure
    if not isinstance(answer, dict if options else list):
        raise PolicyError(f"opa refuses the bundle: {ended.stderr.strip() or ended.stdout.strip():.500}")
    return answer


def _result(item: dict[str, Any], folder: Path) -> RuleResult:
    where = item["location"]
    fault = item.get("error")
    outcome = Outcome.ERROR if fault else Outcome.FAILED if item.get("fail") else Outcome.PASSED
    return RuleResult(
        name=f"{item['package']}.{item['name']}",
        place=f"{folder / _path(where['file'])}:{where['row']}:{where['col']}",
        outcome=outcome,
        message=json.dumps(fault) if fault else None,
    )


def _order(item: dict[str, Any]) -> tuple[str, int]:
    return _path(item["location"]["file"]), item["location"]["row"]


def _path(name: str) -> str:
    return name.removeprefix("/").removeprefix("./")


def _lines(file: dict[str, Any], kind: str) -> set[int]:
    spans = ((part["start"]["row"], part["end"]["row"]) for part in file.get(kind, ()))
    return {line for first, last in spans for line in range(first, last + 1)}


def _missed(file: dict[str, Any]) -> tuple[int, ...]:
    return tuple(sorted(_lines(file, "not_covered") - _lines(file, "covered")))
