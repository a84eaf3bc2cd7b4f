"""`soar suppress`: hold alerts of a kind back for a time, as for maintenance or a known false positive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from soar.cli.base import AsOption, ConfigOption, JsonOption, ReasonOption, out, print_json, run, table, text
from soar.cli.ground import ground, no_playbook
from soar.cli.show import short_id
from soar.cli.stored import stored
from soar.engine.wording import brief, moment
from soar.errors import InputError
from soar.library.conditions import conditions
from soar.library.folder import Library
from soar.located import load
from soar.model.base import from_rfc3339
from soar.model.duration import parse_duration
from soar.model.playbook import Trigger
from soar.model.suppression import Suppression
from soar.store.port import Store

app = typer.Typer(help="Hold alerts of a kind back for a time, with a reason and an end.", no_args_is_help=True)


@app.command()
def add(  # noqa: PLR0913, PLR0917 - an option each
    reason: ReasonOption,
    match: Annotated[
        list[str] | None,
        typer.Option(
            help="FIELD=VALUE as under match: of a playbook; VALUE is YAML: a text, a list, operators. Repeat it.",
            show_default=False,
        ),
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="JMESPath over the alert, as where: of a playbook.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--everything", help="Every alert, without a condition.")] = False,
    playbook: Annotated[
        list[str] | None, typer.Option(help="Only for this playbook; else for all. Repeat it.", show_default=False)
    ] = None,
    for_: Annotated[
        str | None, typer.Option("--for", help="How long, such as 4h; at most 30d.", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Or until when: RFC 3339, such as 2026-01-31T18:00:00Z.", show_default=False)
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="From when on, RFC 3339; else from now on.", show_default=False)
    ] = None,
    named: AsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let alerts of a kind start nothing for a time; each is still recorded, with what held it back.

    Example: soar suppress add --match rule.id=backup-noise --for 4h --reason "CHG-1234, backup moves"
    """
    trigger = _trigger(match or [], where, everything=everything)
    times = _Times(for_, until, from_)
    only = _Only(playbook, ground(config).library()) if playbook else None
    new = run(_add(config, named, trigger, only, times, reason))
    if as_json:
        print_json(new)
        return
    out.print(text(f"suppressed by {told(new)}"))


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Those that are over too.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is held back, by whom, why and until when.

    Example: soar suppress list
    """
    now, found = run(_list(config))
    shown = [each for each in found if everything or each.over_at > now]
    if as_json:
        print_json(shown)
        return
    table(
        f"{len(shown)} suppressions",
        ("suppression", "stands", "until", "alerts with", "for", "by", "reason"),
        (
            (
                short_id(each.id),
                _stands(each, now),
                moment(each.over_at),
                _conditions(each.trigger),
                ", ".join(each.playbooks) or "all playbooks",
                each.by,
                each.reason,
            )
            for each in shown
        ),
    )


@app.command()
def end(
    name: Annotated[str, typer.Argument(metavar="SUPPRESSION", help="Its id, or the end of it.")],
    reason: ReasonOption,
    named: AsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let such alerts through again before the time is over.

    Example: soar suppress end 4DH0QK --reason "the move is done"
    """
    ended = run(_end(config, named, name, reason))
    if as_json:
        print_json(ended)
        return
    out.print(text(f"{ended.id} has ended; what it held back stays so, new alerts are answered"))


def told(suppression: Suppression) -> str:
    """A suppression in words: which, whose, why, until when."""
    ended = f", ended early by {suppression.ended_by}" if suppression.ended_at else ""
    return f"{suppression.id} until {moment(suppression.over_at)}{ended} ({suppression.by}: {suppression.reason})"


@dataclass(frozen=True, slots=True)
class _Only:
    """The playbooks for which alone something is held back."""

    names: Sequence[str]
    library: Library

    async def known(self, store: Store) -> Sequence[str]:
        """Their names; raises NotFoundError for one that is not loaded and has never run.

        One that has run may be in force though its file is broken by now.
        """
        for name in self.names:
            if name not in self.library.playbooks and not await store.runs(playbook_id=name, limit=1):
                raise no_playbook(name, self.library)
        return self.names


class _Times:
    """From when, and for how long or until when, as the options say it; raises InputError."""

    def __init__(self, for_: str | None, until: str | None, since: str | None) -> None:
        if (for_ is None) == (until is None):
            raise InputError("say when it ends, with either --for or --until; a suppression without an end is none")
        self._span = None if for_ is None else _span(for_)
        self._until = None if until is None else _instant("--until", until)
        self._since = None if since is None else _instant("--from", since)

    def at(self, now: datetime) -> tuple[datetime, datetime]:
        """Beginning and end, said at this instant."""
        since = self._since or now
        end = since + self._span if self._span is not None else self._until
        assert end is not None
        return since, end


def _span(value: str) -> timedelta:
    try:
        return parse_duration(value)
    except ValueError as failure:
        raise InputError(f"--for: {failure}") from failure


def _instant(option: str, value: str) -> datetime:
    try:
        return from_rfc3339(value)
    except ValueError as failure:
        raise InputError(f"{option}: {value!r} is no instant with a zone; write 2026-01-31T18:00:00Z") from failure


def _trigger(match: list[str], where: str | None, *, everything: bool) -> Trigger:
    if everything:
        if match or where is not None:
            raise InputError("--everything has no conditions; leave out --match and --where, or --everything")
        return Trigger()
    if not match and where is None:
        raise InputError("which alerts? Give --match FIELD=VALUE or --where, or --everything")
    fields: dict[str, Any] = {}
    for each in match:
        field, sign, value = each.partition("=")
        if not sign or not field:
            raise InputError(f"--match {each!r} is no FIELD=VALUE; write such as --match rule.id=backup-noise")
        if field in fields:
            raise InputError(f"--match {field} stands twice; give a list: --match '{field}=[a, b]'")
        fields[field] = load(value, f"--match {field}", InputError).value
    return conditions(fields, where)


def _conditions(trigger: Trigger) -> str:
    match = {name: each.model_dump(mode="json", exclude_none=True) for name, each in trigger.match.items()}
    where = {} if trigger.where is None else {"where": trigger.where}
    return brief({**match, **where}) or "anything"


def _stands(suppression: Suppression, now: datetime) -> str:
    if suppression.in_force(now):
        return "in force"
    return "to come" if now < suppression.since else "over"


async def _add(
    config: Path | None, named: str | None, trigger: Trigger, only: _Only | None, times: _Times, reason: str
) -> Suppression:
    async with stored(config) as opened:
        playbooks = () if only is None else await only.known(opened.store)
        since, until = times.at(opened.scribe.clock.now())
        suppressor = opened.suppressor(opened.person(named))
        return await suppressor.add(trigger, playbooks=playbooks, since=since, until=until, reason=reason)


async def _list(config: Path | None) -> tuple[datetime, list[Suppression]]:
    async with stored(config) as opened:
        return opened.scribe.clock.now(), await opened.store.suppressions()


async def _end(config: Path | None, named: str | None, name: str, reason: str) -> Suppression:
    async with stored(config) as opened:
        return await opened.suppressor(opened.person(named)).end(name, reason=reason)
