"""`soar deadletters`: records that could not become alerts, kept whole with the reason."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from soar import logs
from soar.cli.base import (
    AsOption,
    ConfigOption,
    JsonOption,
    LimitOption,
    err,
    out,
    print_json,
    run,
    service,
    table,
    text,
)
from soar.cli.find import find_letter, pages_of_letters
from soar.cli.show import fact, heading, short_id, title, visible_bytes, when
from soar.cli.stored import stored
from soar.engine.replaying import LetterFilter, Replayed, replay, replay_of, replayed
from soar.engine.wording import clip, moment
from soar.errors import InputError
from soar.ingest.normalise import Normaliser
from soar.located import did_you_mean
from soar.model.alert import DeadLetter, Record
from soar.model.clock import SystemClock
from soar.model.duration import parse_duration
from soar.service import Service, person_of
from soar.store.port import Store

app = typer.Typer(no_args_is_help=True, help="Dead letters: records that could not become alerts, and why.")

_SHOWN_BYTES = 4096
_REASON = 100


CodeOption = Annotated[str | None, typer.Option("--code", help="Only with this code.", show_default=False)]
SourceOption = Annotated[str | None, typer.Option("--source", help="Only of this source.", show_default=False)]
TopicOption = Annotated[str | None, typer.Option("--topic", help="Only of this topic.", show_default=False)]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="Only of so long: 30m, 24h, 7d.", metavar="DURATION", show_default=False)
]


@app.command(name="list")
def list_letters(
    code: CodeOption = None,
    source: SourceOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest dead letters, without those that were replayed.

    Example: soar deadletters list --code not_json --since 24h
    """
    wanted = _filter(code, source, topic, since=since)
    letters = run(_list(config, wanted, limit))
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


@app.command(name="replay")
def replay_letters(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    name: Annotated[
        str | None, typer.Argument(metavar="[LETTER]", help="One of them; or none, and a filter.", show_default=False)
    ] = None,
    code: CodeOption = None,
    source: SourceOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")] = 1000,
    mapping: Annotated[
        str | None, typer.Option("--mapping", help="Read them with this mapping.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what they would become; change nothing.")] = False,
    named: AsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Admit dead letters again, through the front door. Each can be replayed once; what fails again is a new letter.

    Example: soar deadletters replay --code unknown_mapping --since 24h --dry-run
    """
    logs.configure(level="error")
    wanted = _filter(code, source, topic, since=since)
    if (name is None) == (wanted == LetterFilter()):
        raise InputError("which letters? Name one, or give a filter: --code, --source, --topic, --since")
    done = run(_replay(config, wanted, name=name, limit=limit, mapping=mapping, dry_run=dry_run, named=named))
    if as_json:
        print_json(done)
        return
    rows = sorted(done.outcomes.items())
    if done.known:
        rows.append(("replayed before", done.known))
    table(f"{done.letters} letters{', nothing changed' if dry_run else ''}", ("outcome", "count"), rows)
    for each in done.dead:
        err.print(f"[yellow]still dead[/yellow] {text(each.coordinates)}: {text(each.reason or '')}")


async def _replay(
    config: Path | None,
    wanted: LetterFilter,
    *,
    name: str | None,
    limit: int,
    mapping: str | None,
    dry_run: bool,
    named: str | None,
) -> Replayed:
    async with service(config) as assembled:
        if mapping is not None and mapping not in assembled.mappings.by_name:
            known = did_you_mean(mapping, assembled.mappings.by_name)
            raise InputError(f"no mapping {mapping!r}{known}; `soar mapping list` shows all")
        store, now = assembled.store, assembled.clock.now()
        letters = [await find_letter(store, name)] if name is not None else await _chosen(store, wanted, limit)
        if dry_run:
            known_before = await replayed(store, letters)
            records = [replay_of(each, at=now, mapping=mapping) for each in letters if each.id not in known_before]
            found = Counter(word for each in records for word in would_become(assembled, each))
            return Replayed(letters=len(letters), known=len(known_before), outcomes=found)
        person = person_of(assembled.loaded, named)
        admit = assembled.intake(scribe=assembled.scribe.acting_as(f"person:{person}")).admit
        done = await replay(letters, store=store, admit=admit, at=now, mapping=mapping)
        await assembled.sequencer().sign()
        return done


def would_become(assembled: Service, record: Record) -> list[str]:
    """What a record would be read as now."""
    results = list(Normaliser(assembled.mappings, assembled.ids, assembled.clock).normalise(record))
    return ["dead_letter" if isinstance(each, DeadLetter) else f"an alert of {each.body['source']}" for each in results]


def _filter(code: str | None, source: str | None, topic: str | None, *, since: str | None) -> LetterFilter:
    try:
        span = None if since is None else parse_duration(since)
    except ValueError as failure:
        raise InputError(f"--since: {failure}") from failure
    earliest = None if span is None else SystemClock().now() - span
    return LetterFilter(code=code, source=source, topic=topic, since=earliest)


async def _chosen(store: Store, wanted: LetterFilter, limit: int) -> list[DeadLetter]:
    """The newest that fit and were not replayed."""
    chosen: list[DeadLetter] = []
    async with contextlib.aclosing(pages_of_letters(store)) as pages:
        async for page in pages:
            fitting = [each for each in page if wanted.fits(each)]
            known = await replayed(store, fitting)
            chosen += [each for each in fitting if each.id not in known]
            if len(chosen) >= limit or (wanted.since is not None and page[-1].at < wanted.since):
                break  # what comes is older still
    return chosen[:limit]


async def _list(config: Path | None, wanted: LetterFilter, limit: int) -> list[DeadLetter]:
    async with stored(config) as opened:
        return await _chosen(opened.store, wanted, limit)


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
