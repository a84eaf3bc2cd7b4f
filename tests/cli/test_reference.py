"""docs/cli.md lists exactly the commands that there are, with the words of their help."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer

from soar.cli.app import app

REFERENCE = Path(__file__).parents[2] / "docs" / "cli.md"


def rows(command: object, name: str = "soar") -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner:
        for word, child in inner.items():
            yield from rows(child, f"{name} {word}")
    else:
        first = (getattr(command, "help", "") or "").strip().split("\n\n")[0].replace("\n", " ")
        yield f"| `{name}` | {first} |"


def test_the_reference_is_that_of_the_code() -> None:
    listed = [line for line in REFERENCE.read_text().splitlines() if line.startswith("| `soar")]
    assert listed == list(rows(typer.main.get_command(app)))


def test_every_command_has_help() -> None:
    assert not [row for row in rows(typer.main.get_command(app)) if row.endswith("|  |")]
