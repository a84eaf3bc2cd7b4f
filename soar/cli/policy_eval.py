"""`soar policy eval` and `coverage`: one question, and what the tests run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError

from soar import logs
from soar.cli.base import FOUND, ConfigOption, JsonOption, out, print_json, settings, table, text
from soar.errors import ConfigError, InputError
from soar.located import explain, load, read_text
from soar.model.decision import Decision
from soar.policy import input as facts
from soar.policy.bundle import load_bundle
from soar.policy.gate import Document
from soar.policy.rehearsal import rehearsal
from soar.policy.replay import WORDS, Bench
from soar.policy.testing import FileCoverage, run_tests
from soar.service.running import HONOURED

_COMPUTED = ("names", "addresses")  # follow from a target's id

PoliciesOption = Annotated[
    Path | None, typer.Option("--policies", help="A folder of policies; else the configured one.", show_default=False)
]


def evaluate(
    question: Annotated[
        str | None, typer.Argument(metavar="INPUT", help="A file with the input document; - reads standard input.")
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Print an input document to start from.")] = False,
    policies: PoliciesOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the policies one question, as the gate would, and print the decision; nothing is sent or journalled.

    What the input leaves out has its default, and a target's names follow from its id.

    Example: soar policy eval --example > q.json && soar policy eval q.json
    """
    if example:
        print_json(_without_computed(rehearsal()[1].document()))
        return
    if question is None:
        raise ConfigError("name a file with the input document, or - for standard input; --example prints one")
    logs.configure(level="error")
    document = read_question(question)
    bundle = load_bundle(folder_of(policies, config))
    with Bench(bundle, honours=HONOURED) as bench:
        (decision,) = bench.decide([document])
    if as_json:
        print_json(decision)
    else:
        _show(decision)


def read_question(name: str) -> Document:
    """An input document, whole; raises InputError with the place of everything wrong."""
    file = "standard input" if name == "-" else name
    source = sys.stdin.read() if name == "-" else read_text(Path(name), InputError)
    located = load(source, file, InputError)
    if not isinstance(located.value, dict):
        raise InputError(f"{file} holds no input document; `soar policy eval --example` prints one")
    try:
        return facts.PolicyInput.model_validate(_without_computed(located.value)).document()
    except ValidationError as failure:
        raise InputError("\n".join(map(str, explain(failure, located, InputError, known=_known())))) from None


def _known() -> list[str]:
    models = [each for each in vars(facts).values() if isinstance(each, type) and issubclass(each, BaseModel)]
    return sorted({field.alias or name for model in models for name, field in model.model_fields.items()})


def _without_computed(document: dict[str, Any]) -> dict[str, Any]:
    action = document.get("action")
    if not isinstance(action, dict) or not isinstance(action.get("targets"), list):
        return document
    targets = [
        {name: value for name, value in each.items() if name not in _COMPUTED} if isinstance(each, dict) else each
        for each in action["targets"]
    ]
    return {**document, "action": {**action, "targets": targets}}


def _show(decision: Decision) -> None:
    colour = {"allow": "green", "deny": "red"}.get(decision.effect, "yellow")
    out.print(f"[{colour}]{WORDS[decision.effect]}[/{colour}]  revision {decision.revision[:12]}")
    for reason in decision.reasons:
        out.print(f"  {text(reason.msg)}  [dim]{text(f'[{reason.code}] {reason.control}')}[/dim]")
    for warning in decision.warnings:
        out.print(f"  [yellow]warning[/yellow] {text(warning)}")
    for obligation in decision.obligations:
        about = obligation.model_dump(mode="json", exclude={"type"}, exclude_none=True)
        shown = ", ".join(f"{name} {value}" for name, value in about.items())
        out.print(f"  [yellow]{obligation.type}[/yellow] {text(shown)}")
    out.print(f"  controls evaluated: {text(', '.join(decision.controls_evaluated))}")


def coverage(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder of policies; else the configured one.", show_default=False)
    ] = None,
    least: Annotated[float, typer.Option("--at-least", min=0, max=100, help="Percent of lines that must be run.")] = 95,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which lines of the policies no test runs; exit code 1 if a test fails or too few lines are run.

    Example: soar policy coverage policies --at-least 100
    """
    report = run_tests(folder_of(folder, config))
    enough = report.passed and report.percent >= least
    if as_json:
        print_json(
            {
                "revision": report.revision,
                "passed": report.passed,
                "percent": round(report.percent, 1),
                "at_least": least,
                "enough": enough,
                "files": [
                    {**each.model_dump(mode="json"), "percent": round(each.percent, 1)} for each in report.coverage
                ],
            }
        )
    else:
        table("", ("file", "covered", "lines that no test ran"), map(row_of, report.coverage))
        failed = "" if report.passed else "; tests fail or there are none: soar policy test"
        out.print(f"{report.percent:.1f}% covered, at least {least:g}% wanted{failed}")
    if not enough:
        raise typer.Exit(FOUND)


def row_of(file: FileCoverage) -> tuple[str, str, str]:
    """One file's coverage for people."""
    return file.file, f"{file.percent:.0f}%", _lines(file.missed)


def _lines(numbers: tuple[int, ...]) -> str:
    """`3, 7-9` for 3, 7, 8, 9."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    return ", ".join("-".join(map(str, span)) for span in spans)


def folder_of(folder: Path | None, config: Path | None) -> Path:
    """The folder that was named, else the configured one."""
    if folder is not None:
        return folder
    loaded = settings(config)
    return loaded.path(loaded.settings.policy.path)
