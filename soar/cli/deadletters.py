"""`soar deadletters`: records that could not become alerts, kept whole with the reason."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from soar.cli.base import ConfigOption, JsonOption, LimitOption, out, print_json, run, table
from soar.cli.find import find_letter
from soar.cli.show import fact, heading, short_id, title, visible_bytes, when
from soar.cli.stored import stored
from soar.engine.wording import clip, moment
from soar.errors import InputError
from soar.model.alert import DeadLetter

app = typer.Typer(no_args_is_help=True, help="Dead letters: records that could not become alerts, and why.")

_SHOWN_BYTES = 4096
_REASON = 100


@app.command(name="list")
def list_letters(limit: LimitOption = 50, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The newest dead letters.

    Example: soar deadletters list
    """
    letters = run(_list(config, limit))
    if as_json:
        print_json(letters)
        return
    table(
        title(len(letters), "dead letters", limit),
        ("letter", "at", "code", "bytes", "record", "reason"),
        (
            (
                short_id(each.id),
                when(each.at),
                each.code,
                len(each.record.value),
                clip(each.record.coordinates, _REASON),
                clip(each.reason, _REASON),
            )
            for each in letters
        ),
    )


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="LETTER", help="Its id, the beginning of it, or its last 6 or more characters.")
    ],
    raw: Annotated[bool, typer.Option("--raw", help="Write the bytes as they came, and nothing else.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """One dead letter with its reason and its bytes.

    Example: soar deadletters show 0QK4TZ --raw > record.json
    """
    letter = run(_show(config, name))
    if raw:
        if sys.stdout.isatty():
            raise InputError("--raw writes whatever came, which could steer this terminal; send it to a file: > FILE")
        typer.echo(letter.record.value, nl=False)
    elif as_json:
        print_json(letter)
    else:
        _print(letter)


async def _list(config: Path | None, limit: int) -> list[DeadLetter]:
    async with stored(config) as opened:
        return await opened.store.dead_letters(limit)


async def _show(config: Path | None, name: str) -> DeadLetter:
    async with stored(config) as opened:
        return await find_letter(opened.store, name)


def _print(letter: DeadLetter) -> None:
    record = letter.record
    heading(f"{letter.id}: {letter.code}")
    fact("reason", letter.reason)
    fact("record", record.coordinates)
    fact("received", f"{moment(record.received_at)}, given up {moment(letter.at)}")
    fact("mapping", record.mapping or "found by shape")
    for name, value in record.headers.items():
        fact("header", f"{name}: {value}")
    size = len(record.value)
    cut = f", the first {_SHOWN_BYTES} shown" if size > _SHOWN_BYTES else ""
    fact("bytes", f"{size}{cut}")
    for line in visible_bytes(record.value[:_SHOWN_BYTES]).split("\n"):
        out.print(f"    {line}", markup=False, emoji=False)
