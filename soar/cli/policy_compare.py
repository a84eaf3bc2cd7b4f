"""`soar policy diff`: what changed between two bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from soar import logs
from soar.cli.base import FOUND, JsonOption, out, print_json, text
from soar.cli.ground import counted
from soar.engine.wording import brief
from soar.policy.bundle import load_bundle
from soar.policy.compare import Comparison, ValueChange, VerdictChange, compare
from soar.policy.replay import action_of
from soar.service.running import HONOURED

_VALUE = 80
_COLOURS = {"added": "green", "removed": "red"}


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A folder of policies.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Another.")],
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two bundles: files, data, controls, verdicts on 2000 questions; exit code 1 if any.

    The questions are made from the names and numbers in both bundles' data; the same bundles give the same ones.

    Example: soar policy diff policies policies-new
    """
    logs.configure(level="error")
    found = compare((old, load_bundle(old)), (new, load_bundle(new)), honours=HONOURED)
    if as_json:
        print_json(_plain(found))
    else:
        _show(found)
    if found.differs:
        raise typer.Exit(FOUND)


def _show(found: Comparison) -> None:
    for file in found.files:
        lines = f" (+{file.added} -{file.removed} lines)"
        out.print(f"file     {_word(file.word)} {text(file.path)}{lines}")
    for control in found.controls:
        out.print(f"control  {_word(control.word)} {text(control.control)}")
    for value in found.values:
        out.print(f"data     {_word(value.word)} {text('.'.join(value.path))}: {text(_values(value))}")
        out.print(f"         [dim]{text(value.place or '')}[/dim]")
    for verdict in found.verdicts:
        controls = ", ".join(verdict.controls)
        out.print(f"verdict  [bold]{verdict.kind}[/bold] {verdict.count} of {found.asked}, by {text(controls)}")
        out.print(f"         for example {text(_example(verdict))}")
    changed = sum(verdict.count for verdict in found.verdicts)
    out.print(
        f"revision {found.old[:12]} -> {found.new[:12]}: {counted(len(found.files), 'file')},"
        f" {counted(len(found.values), 'value')}, {counted(len(found.controls), 'control')};"
        f" {changed} of {found.asked} generated questions get another verdict"
    )


def _word(word: str) -> str:
    return f"[{_COLOURS.get(word, 'yellow')}]{word}[/{_COLOURS.get(word, 'yellow')}]"


def _values(value: ValueChange) -> str:
    match value.word:
        case "added":
            return brief(value.new, _VALUE)
        case "removed":
            return brief(value.old, _VALUE)
        case _:
            return f"{brief(value.old, _VALUE)} -> {brief(value.new, _VALUE)}"


def _example(verdict: VerdictChange) -> str:
    question = verdict.question
    reasons = (verdict.new.reasons if verdict.new.effect != "allow" else verdict.old.reasons) or ()
    said = "; ".join(f"{msg} [{code}]" for code, _, msg in reasons)
    word = "now" if verdict.new.effect != "allow" else "no longer"
    about = f"{action_of(question)} (risk {question['action']['risk']}, severity {question['alert']['severity']})"
    return f"{about}; {word}: {said}" if said else about


def _plain(found: Comparison) -> dict[str, Any]:
    return {
        "old": found.old,
        "new": found.new,
        "files": found.files,
        "data": [{**_fields(value), "place": str(value.place) if value.place else None} for value in found.values],
        "controls": found.controls,
        "asked": found.asked,
        "verdicts": found.verdicts,
    }


def _fields(value: ValueChange) -> dict[str, Any]:
    return {"path": value.path, "word": value.word, "old": value.old, "new": value.new}
