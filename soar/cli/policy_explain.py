"""`soar policy explain`: why an action was allowed, gated or denied, and what would have to differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from soar.cli.base import ConfigOption, JsonOption, out, print_json, run, settings, text
from soar.cli.find import find_run
from soar.cli.policy_history import leaf_of
from soar.cli.reading import reading
from soar.cli.show import fact, heading
from soar.cli.stored import stored
from soar.engine.wording import brief
from soar.errors import NotFoundError, PolicyError
from soar.model.decision import Reason
from soar.model.entry import EntryType
from soar.policy.bundle import Bundle, load_bundle
from soar.policy.grounds import At, Grounds, Inquiry, Otherwise, Turned
from soar.policy.replay import WORDS, Past, UndecidableError, read_past

_SAID = {
    "allow": ("allowed", "green", "no control objects"),
    "ask": ("allowed once people agree", "yellow", "people must agree"),
    "deny": ("denied", "red", "it is denied"),
}
_VALUE = 60
_MOST = 12

DecidedArgument = Annotated[
    str, typer.Argument(metavar="RUN|DECISION", help="A run, by its id or a part of it, or the whole id of a decision.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A journalled decision with what its reasons rest on; `note` says where the policies of today differ."""

    past: Past
    times: int  # how often the action was decided, this one included
    effect: str
    grounds: tuple[Grounds | None, ...]  # one for each reason; None where the policies here do not give it
    otherwise: tuple[Otherwise, ...]
    note: str | None


def explain(
    name: DecidedArgument,
    step: Annotated[
        str | None, typer.Option("--step", help="Only the action at this path of the run.", show_default=False)
    ] = None,
    policies: Annotated[
        Path | None, typer.Option("--policies", help="Policies to explain by; else the configured.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say why each action of a run was allowed, gated or denied: the rule, the data it rests on, what would change it.

    The last decision on each action, or the one of that id. What it turned on is found by asking again.

    Example: soar policy explain KBJ61M --step isolate
    """
    loaded = settings(config)
    folder = policies or loaded.path(loaded.settings.policy.path)
    run_id = None if name.startswith("decision-") else run(_run_of(config, name))
    with reading(loaded) as (evidence, archive):
        mentions = name if run_id is None else None
        found = archive.reading()
        kind = EntryType.POLICY_DECIDED.value
        entries = [found.fill(each) for each in evidence.entries(run_id=run_id, kind=kind, mentions=mentions)]
        pasts: list[Past] = []
        for entry in entries:
            try:
                pasts.append(read_past(leaf_of(entry), entry.payload, index=entry.index, away=entry.payload_erased))
            except UndecidableError as failure:
                out.print(f"[yellow]entry {entry.index} cannot be explained:[/yellow] {text(failure)}")
    wanted = [past for past in pasts if step in {None, past.path} and (run_id is not None or past.id == name)]
    if not wanted:
        at = f" at {step!r}" if step else ""
        raise NotFoundError(f"no decision of {name}{at} is in the journal; `soar runs show` tells what a run did")
    explained = list(_explained(wanted, load_bundle(folder), folder))
    if as_json:
        print_json([_plain(each) for each in explained])
        return
    for each in explained:
        _show(each)


async def _run_of(config: Path | None, name: str) -> str:
    async with stored(config) as opened:
        try:
            return (await find_run(opened.store, name)).id
        except NotFoundError:
            if name.startswith("run-"):
                return name  # one that has left the store is still in the journal
            raise


def _explained(pasts: list[Past], bundle: Bundle, folder: Path) -> Iterator[Explained]:
    last = {past.path: past for past in pasts}
    for past in last.values():
        inquiry = Inquiry(bundle, folder, past.question)
        reasons = [_reason(each) for each in past.ruling.reasons]
        today = inquiry.decision()
        yield Explained(
            past=past,
            times=sum(each.path == past.path for each in pasts),
            effect=past.ruling.effect,
            grounds=tuple(inquiry.grounds(reason) for reason in reasons),
            otherwise=() if reasons else inquiry.differences(),
            note=_note(past, bundle, folder, today),
        )


def _reason(said: tuple[str, str, str]) -> Reason:
    code, control, msg = said
    try:
        return Reason(code=code, control=control, msg=msg)
    except ValidationError as failure:
        raise PolicyError(f"the journal holds a reason that is none: {said!r}") from failure


def _note(past: Past, bundle: Bundle, folder: Path, today: dict[str, Any] | None) -> str | None:
    if past.revision == bundle.revision:
        return None
    then, now = past.revision[:12], bundle.revision[:12]
    said = (today or {}).get("effect", "no decision")
    return (
        f"it was decided under revision {then}; {folder} holds {now}, which says {said}: rules, data and what"
        " would differ are told by that one"
    )


def _show(each: Explained) -> None:
    past, action = each.past, each.past.question["action"]
    words, colour, because = _SAID[each.effect]
    heading(f"{past.run} {past.path}: {past.action}")
    people = f": {past.ruling.people}" if past.ruling.people else ""
    out.print(f"  [{colour}]{text(words + people)}[/{colour}]")
    often = f", the last of {each.times} decisions on it" if each.times > 1 else ""
    fact("decided", f"{past.at[:19]}Z, {past.question.get('phase')}{often}; {past.id}, revision {past.revision[:12]}")
    alert = past.question.get("alert", {})
    fact("action", f"effect {action.get('effect')}, risk {action.get('risk')}")
    fact("alert", f"severity {alert.get('severity')}, confidence {alert.get('confidence') or 'not told'}")
    if each.note:
        out.print(f"  [yellow]{text(each.note)}[/yellow]")
    if not past.ruling.reasons:
        fact("because", because)
    for (code, control, msg), grounds in zip(past.ruling.reasons, each.grounds, strict=True):
        fact("because", f"{msg} [{code}]")
        _show_grounds(control, grounds)
    if len(past.ruling.reasons) > 1:
        fact("together", f"each of the {len(past.ruling.reasons)} reasons is enough; all would have to go")
    _show_otherwise(each.otherwise)
    out.print()


def _show_grounds(control: str, grounds: Grounds | None) -> None:
    if grounds is None:
        why = "the gate itself" if control == "gate" else "the policies here do not say so"
        fact("  control", f"{control}: {why}")
        return
    fact("  control", f"{control}, {grounds.rule}" if grounds.rule else control)
    for turned in grounds.data[:_MOST]:
        fact("  data", f"{turned.place or ''} {_path(turned.path[1:])} = {brief(turned.value, _VALUE)}".strip())
    shown = (f"{_path(each.path)} = {brief(each.value, _VALUE)}" for each in grounds.fields[:_MOST])
    fact("  turned on", ", ".join(shown) or "no field of the input")
    _show_otherwise(grounds.otherwise)


def _show_otherwise(found: tuple[Otherwise, ...]) -> None:
    for each in found[:_MOST]:
        fact("  otherwise", f"{_path(each.path)} {each.words}: {WORDS.get(each.effect, each.effect)}")


def _path(path: At) -> str:
    """`action.targets[0].names`."""
    shown = ""
    for part in path:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}" if shown else part
    return shown


def _plain(each: Explained) -> dict[str, Any]:
    past = each.past
    return {
        "run": past.run,
        "path": past.path,
        "action": past.action,
        "effect": each.effect,
        "people": past.ruling.people,
        "decision": past.id,
        "index": past.index,
        "at": past.at,
        "revision": past.revision,
        "times": each.times,
        "note": each.note,
        "reasons": [
            {"code": code, "control": control, "msg": msg, **_plain_grounds(grounds)}
            for (code, control, msg), grounds in zip(past.ruling.reasons, each.grounds, strict=True)
        ],
        "otherwise": _plain_otherwise(each.otherwise),
    }


def _plain_grounds(grounds: Grounds | None) -> dict[str, Any]:
    if grounds is None:
        return {}
    return {
        "rule": str(grounds.rule) if grounds.rule else None,
        "data": [_plain_turned(each) for each in grounds.data],
        "turned_on": [_plain_turned(each) for each in grounds.fields],
        "otherwise": _plain_otherwise(grounds.otherwise),
    }


def _plain_turned(turned: Turned) -> dict[str, Any]:
    place = {"place": str(turned.place)} if turned.place else {}
    return {"path": list(turned.path), "value": turned.value, **place}


def _plain_otherwise(found: tuple[Otherwise, ...]) -> list[dict[str, Any]]:
    return [{"path": list(each.path), "words": each.words, "effect": each.effect} for each in found]
