"""How the commands of the day print: short ids, one fact a line, and foreign text with nothing hidden in it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from rich.console import Console

from soar.cli.base import out, text

_LABEL = 11
_TAIL = 8


def short_id(name: str | None) -> str:
    """The end of an id: what differs between ids of the same moment. Every command takes it for the whole."""
    return "" if name is None else name[-_TAIL:]


def when(moment: datetime) -> str:
    """An instant in a list: UTC, without the year."""
    return f"{moment:%m-%d %H:%M:%S}"


def title(count: int, things: str, limit: int) -> str:
    """The line over a list; it says where the list may have been cut."""
    return f"{count} {things}, newest first{', more with --limit' if count == limit else ''}"


def heading(words: str) -> None:
    """The first line of something that is shown."""
    out.print(f"[bold]{text(words)}[/bold]", emoji=False)


def fact(label: str, value: object, *, console: Console = out) -> None:
    """One fact on one line, whatever the value holds; the terminal breaks long lines, so that they copy whole."""
    console.print(f"  [cyan]{label:<{_LABEL}}[/cyan] {text(value)}", emoji=False)


def visible(value: Any, *, indent: int | None = None) -> str:
    """JSON in which every character that does not print (control, direction, zero width) is escaped.

    It reads back to the same value. This is how to show what a person must be able to trust.
    """
    shown = json.dumps(value, ensure_ascii=False, indent=indent)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in shown)


def visible_bytes(raw: bytes) -> str:
    """Bytes as text, line by line, with escapes for all that is not printable UTF-8."""
    shown = raw.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in shown)
