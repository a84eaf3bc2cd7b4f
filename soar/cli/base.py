"""What every command shares: the configuration, one way to print, one way to fail.

Exit codes: 0 done; 1 a check found something wrong (lint, tests, verification); 2 the input is wrong or names
nothing; 3 not allowed; 4 a part cannot be reached; 5 somebody else changed it first.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from soar import errors
from soar.logs import harmless
from soar.model.base import to_rfc3339
from soar.service import Service, assemble
from soar.settings import Loaded, load_settings

OK, FOUND, INPUT, NOT_ALLOWED, UNAVAILABLE, CONFLICT = range(6)

T = TypeVar("T")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The configuration; else SOAR_CONFIG, else ./soar.yaml.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
AsOption = Annotated[
    str | None,
    typer.Option("--as", help="Act as this person, where cli.act_as allows it; journalled.", show_default=False),
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; goes into the journal.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")]

# A pipe has no width: what reads it wants whole lines.
out = Console(highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def settings(config: Path | None) -> Loaded:
    """The configuration that this command runs on."""
    return load_settings(config)


@contextlib.asynccontextmanager
async def service(config: Path | None) -> AsyncIterator[Service]:
    """Everything that the configuration names, opened but not started."""
    async with assemble(load_settings(config)) as assembled:
        yield assembled


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run one command's work to its end."""
    return asyncio.run(work)


def text(value: object) -> str:
    """A value as it may appear on a terminal: no control characters, no markup of its own."""
    shown = to_rfc3339(value) if isinstance(value, datetime) else str(value)
    return escape(harmless(shown).replace("\n", " "))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows for people."""
    shown = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*("" if cell is None else text(cell) for cell in row))
    out.print(shown)


def print_json(value: object) -> None:
    """Print one JSON document for programs."""
    typer.echo(as_json(value))


def as_json(value: object) -> str:
    """One JSON document, in which nothing steers a terminal: escaped is the same JSON."""
    shown = json.dumps(plain(value), ensure_ascii=False, indent=2)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in shown)


def plain(value: Any) -> Any:
    """Anything of ours as plain JSON values."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(child) for child in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, datetime):
        return to_rfc3339(value)
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, Path) else value


def exit_code(failure: errors.SoarError) -> int:
    """The exit code that tells a program what kind of trouble it was."""
    match failure:
        case errors.NotAllowedError():
            return NOT_ALLOWED
        case errors.StoreUnavailableError() | errors.PolicyUnavailableError() | errors.ConnectorError():
            return UNAVAILABLE
        case errors.StateConflictError() | errors.LeaseLostError():
            return CONFLICT
        case errors.JournalError():
            return FOUND
        case _:
            return INPUT
