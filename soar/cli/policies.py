"""`soar policy`: the commands together, and test and lint."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from soar.cli.base import FOUND, ConfigOption, JsonOption, out, print_json, table, text
from soar.cli.ground import counted, plain_faults, print_faults
from soar.cli.opa import opa_tests
from soar.cli.policy_change import promote, shadow
from soar.cli.policy_compare import diff
from soar.cli.policy_eval import coverage, evaluate, folder_of, row_of
from soar.cli.policy_explain import explain
from soar.cli.policy_history import backtest
from soar.errors import ConfigError, PolicyError
from soar.policy.bundle import load_bundle
from soar.policy.testing import Outcome, PolicyReport, run_tests

FolderArgument = Annotated[
    Path | None, typer.Argument(help="A folder of policies; else the configured one.", show_default=False)
]


class Engine(StrEnum):
    """Who runs the tests."""

    EMBEDDED = "embedded"
    OPA = "opa"


def add_to(app: typer.Typer) -> None:
    """Add `policy` and its commands."""
    group = typer.Typer(help="Check, test, explain and change policies.", no_args_is_help=True)
    group.command(name="test")(run_policy_tests)
    group.command(name="lint")(lint_policies)
    group.command(name="export")(export_policies)
    group.command()(coverage)
    group.command(name="eval")(evaluate)
    group.command()(explain)
    group.command()(diff)
    group.command()(backtest)
    group.command()(shadow)
    group.command()(promote)
    app.add_typer(group, name="policy")


def run_policy_tests(
    folder: FolderArgument = None,
    engine: Annotated[Engine, typer.Option("--engine", help="Who runs them.")] = Engine.EMBEDDED,
    opa: Annotated[str, typer.Option("--opa", help="The opa program, for --engine opa.")] = "opa",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the rules named test_* in *_test.rego, and say what they cover; exit code 1 if one fails.

    Example: soar policy test policies --engine opa
    """
    path = folder_of(folder, config)
    report = run_tests(path) if engine is Engine.EMBEDDED else opa_tests(path, opa)
    if as_json:
        print_json(
            {
                **report.model_dump(mode="json"),
                "passed": report.passed,
                "percent": round(report.percent, 1) if report.coverage else None,
            }
        )
    else:
        _show(report, engine)
    if not report.passed:
        raise typer.Exit(FOUND)


def _show(report: PolicyReport, engine: Engine) -> None:
    for result in report.results:
        good = result.outcome is Outcome.PASSED
        word = "[green]ok[/green]    " if good else f"[red]{result.outcome.upper():6}[/red]"
        name = text(result.name.removeprefix("data."))
        out.print(f"{word} {name}" if good else f"{word} {text(result.place)}: {name}")
        if result.message:
            out.print(f"       {text(result.message)}")
    if report.coverage:
        table("", ("file", "covered", "lines that no test ran"), map(row_of, report.coverage))
    failed = sum(result.outcome is not Outcome.PASSED for result in report.results)
    tests = f"{counted(len(report.results), 'test')}, {failed} failed" if report.results else "there are no tests"
    covered = f"{report.percent:.1f}% covered" if report.coverage else "coverage not measured"
    out.print(f"{tests}; {covered}; engine {engine}, revision {report.revision[:12]}")


def lint_policies(folder: FolderArgument = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check that a bundle loads, keeps to the dialect, and decides; exit code 1 if not.

    Example: soar policy lint policies
    """
    path = folder_of(folder, config)
    faults: list[PolicyError] = []
    summary: dict[str, object] = {}
    try:
        bundle = load_bundle(path)
    except PolicyError as failure:
        faults.append(failure)
    else:
        summary = {
            "revision": bundle.revision,
            "modules": len(bundle.modules),
            "tests": len(bundle.tests),
            "data": sorted(bundle.data),
            "mandatory_controls": sorted(bundle.mandatory_controls),
        }
    if as_json:
        print_json({**summary, "errors": plain_faults(faults)})
    elif summary:
        controls = ", ".join(sorted(bundle.mandatory_controls)) or "none"
        out.print(f"{text(path)}: {counted(len(bundle.modules), 'module')}, 0 errors; revision {bundle.revision[:12]}")
        out.print(f"mandatory controls: {text(controls)}")
    print_faults([] if as_json else faults)
    if faults:
        raise typer.Exit(FOUND)


def export_policies(
    to: Annotated[
        Path, typer.Argument(help="The folder for OPA: new, empty, or exported to before.", show_default=False)
    ],
    folder: FolderArgument = None,
    config: ConfigOption = None,
) -> None:
    """Write the policies as a bundle for an OPA server: `opa run --server --bundle FOLDER`.

    Its manifest has the revision that soar asks for, its data is JSON as soar read it.

    Example: soar policy export /srv/opa/bundle
    """
    if to.exists() and not (to / ".manifest").is_file() and any(to.iterdir()):
        raise ConfigError(f"{to} holds something else; name an empty folder, as what is in it is replaced")
    bundle = load_bundle(folder_of(folder, config))
    for old in sorted(to.iterdir()) if to.exists() else ():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    bundle.export(to)
    out.print(f"{text(to)}: revision {bundle.revision[:12]}")
