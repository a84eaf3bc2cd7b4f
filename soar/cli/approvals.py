"""`soar approvals`: what waits for people, shown from exactly the bytes that they agree to."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from soar.cli.answers import parse_answer
from soar.cli.base import (
    FOUND,
    AsOption,
    ConfigOption,
    JsonOption,
    LimitOption,
    out,
    print_json,
    run,
    table,
    text,
)
from soar.cli.find import find_approval, subject
from soar.cli.show import fact, heading, short_id, title, visible, when
from soar.cli.stored import Stored, stored
from soar.engine.wording import brief, clip, escalation, missing, moment, quorums
from soar.errors import InputError, JournalError, StateConflictError
from soar.model.approval import Approval, ApprovalState
from soar.model.entry import EntryType

app = typer.Typer(no_args_is_help=True, help="Approvals: what waits for people, and their word on it.")

ApprovalArgument = Annotated[
    str, typer.Argument(metavar="APPROVAL", help="Its id, the beginning of it, or its last 6 or more characters.")
]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why; goes into the journal.", show_default=False)]
DigestOption = Annotated[
    str | None,
    typer.Option("--digest", help="Only if it is about this: 12 or more digits of its digest.", show_default=False),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; --digest must say what was seen.")]

_DIGEST = re.compile(r"[0-9a-f]{12,64}")
_ABOUT = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An approval, and why it was asked for: policy's reasons, none where the playbook alone asks."""

    approval: Approval
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """What one person says to one request, as the command line has it."""

    decision: str
    reason: str | None
    digest: str | None
    yes: bool
    named: str | None
    answer: str | None = None


@app.command(name="list")
def list_approvals(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    limit: LimitOption = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What waits for people.

    Example: soar approvals list
    """
    found = run(_list(config, everything=everything, limit=limit))
    if as_json:
        print_json(found)
        return
    table(
        title(len(found), "approvals" if everything else "approvals wait for people", limit),
        ("approval", "until", "state", "about"),
        (
            (
                short_id(each.id),
                when(each.decide_by),
                f"needs {missing(each)}" if each.state is ApprovalState.PENDING else each.state,
                _about(each),
            )
            for each in found
        ),
    )


@app.command()
def show(name: ApprovalArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What would be done, to whom, why people are asked, and who has agreed.

    Example: soar approvals show 4DH0QK
    """
    request = run(_show(config, name))
    if as_json:
        print_json(request)
        return
    _print(request)
    if request.approval.state is ApprovalState.PENDING:
        _print_how(request.approval)


@app.command()
def grant(
    name: ApprovalArgument,
    reason: ReasonOption = None,
    digest: DigestOption = None,
    yes: YesOption = False,
    named: AsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what would be done and agree to exactly that.

    Example: soar approvals grant 4DH0QK --reason "seen it too"
    """
    word = _Word(decision="grant", reason=reason, digest=digest, yes=yes, named=named)
    _decide(config, name, word, as_json=as_json)


@app.command()
def deny(
    name: ApprovalArgument,
    reason: ReasonOption = None,
    digest: DigestOption = None,
    yes: YesOption = False,
    named: AsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what would be done and say no; one no ends it.

    Example: soar approvals deny 4DH0QK --reason "planned work"
    """
    word = _Word(decision="deny", reason=reason, digest=digest, yes=yes, named=named)
    _decide(config, name, word, as_json=as_json)


@app.command()
def answer(
    name: ApprovalArgument,
    value: Annotated[str, typer.Argument(help="The answer: text, a number, yes or no, or one of the options.")],
    digest: DigestOption = None,
    yes: YesOption = False,
    named: AsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question that a playbook asks.

    Example: soar approvals answer 4DH0QK planned
    """
    word = _Word(decision="grant", reason=None, digest=digest, yes=yes, named=named, answer=value)
    _decide(config, name, word, as_json=as_json)


def _decide(config: Path | None, name: str, word: _Word, *, as_json: bool) -> None:
    if (word.yes or as_json) and not (word.yes and word.digest):
        raise InputError(
            "--yes and --json do not ask, so say with --yes --digest what you saw: 12 or more digits of the digest"
            " that `soar approvals show` prints"
        )
    if word.digest is not None and not _DIGEST.fullmatch(word.digest):
        raise InputError(f"--digest {word.digest!r} is not the beginning of a digest; give 12 to 64 hex digits")
    after = run(_vote(config, name, word))
    if as_json:
        print_json(after)
        return
    match after.state:
        case ApprovalState.GRANTED if "question" in after.binding:
            out.print("answered; the run goes on")
        case ApprovalState.GRANTED:
            until = f" until {moment(after.execute_by)}" if after.execute_by else ""
            out.print(text(f"granted: it may be done{until}, if nothing about it changes"))
        case ApprovalState.DENIED:
            out.print("denied: it will not be done")
        case _:
            out.print(text(f"recorded; still missing: {missing(after)}"))


async def _vote(config: Path | None, name: str, word: _Word) -> Approval:
    async with stored(config) as opened:
        approval = await find_approval(opened.store, name)
        person = opened.person(word.named)
        _check_kind(approval, word)
        value = None if word.answer is None else parse_answer(approval.binding, word.answer)
        digest = _seen(approval, word)
        if not word.yes:
            _print(await _request(opened, approval))
            said = f"answer {visible(value)} to" if word.answer is not None else word.decision
            if not typer.confirm(f"As {visible(person)[1:-1]}, {said} exactly this ({digest[:12]})?"):
                raise typer.Exit(FOUND)
        return await opened.desk().vote(
            approval.id,
            person=person,
            decision=word.decision,
            digest=digest,
            method="cli",
            reason=word.reason,
            answer=value,
        )


def _seen(approval: Approval, word: _Word) -> str:
    """The digest of what is shown, worked out anew; raises StateConflictError where the person means another."""
    digest = _own_digest(approval)
    if word.digest is not None and not digest.startswith(word.digest):
        raise StateConflictError(f"approval {approval.id} is about {digest[:12]}, not {word.digest[:12]}; look again")
    return digest


def _own_digest(approval: Approval) -> str:
    digest = Approval.digest_of(approval.binding)
    if digest != approval.digest:
        raise JournalError(
            f"approval {approval.id} shows what hashes to {digest[:12]}, but was asked for as {approval.digest[:12]}: "
            "the store was changed from outside; decide nothing, run `soar audit verify`"
        )
    return digest


def _check_kind(approval: Approval, word: _Word) -> None:
    question = "question" in approval.binding
    short = short_id(approval.id)
    if word.answer is not None and not question:
        raise InputError(f"approval {approval.id} asks for consent; use `soar approvals grant {short}` or `deny`")
    if word.answer is None and word.decision == "grant" and question:
        raise InputError(f"approval {approval.id} is a question; use `soar approvals answer {short} VALUE`")


async def _list(config: Path | None, *, everything: bool, limit: int) -> list[Approval]:
    async with stored(config) as opened:
        return await opened.store.approvals(state=None if everything else ApprovalState.PENDING, limit=limit)


async def _show(config: Path | None, name: str) -> Request:
    async with stored(config) as opened:
        approval = await find_approval(opened.store, name)
        _own_digest(approval)
        return await _request(opened, approval)


async def _request(opened: Stored, approval: Approval) -> Request:
    """The approval with the reasons of the decision that came right before it in the journal."""
    reasons: tuple[str, ...] = ()
    async for row in opened.store.entries(run_id=approval.run_id):
        leaf = json.loads(row.leaf)
        if leaf["subject"] == approval.id:
            break
        if row.type == EntryType.POLICY_DECIDED and leaf["subject"] == approval.path:
            decision = json.loads(row.payload)["decision"] if row.payload else {}
            reasons = tuple(f"{each['msg']} [{each['code']}]" for each in decision.get("reasons", ()))
    return Request(approval=approval, reasons=reasons)


def _about(approval: Approval) -> str:
    binding = approval.binding
    words = f"{subject(approval)} {brief(binding.get('params', {}))}"
    return clip(str(binding.get("question", words)), _ABOUT)


def _print(request: Request) -> None:
    """Everything that is bound, whole: nothing here comes from the alert, but through what would be sent."""
    approval, binding = request.approval, request.approval.binding
    heading(f"{approval.id}: {approval.state}")
    if "question" in binding:
        fact("question", visible(binding["question"]))
        fact("answer", " | ".join(map(visible, binding["options"])) or binding["answer"])
    else:
        fact("action", f"{binding['action']} ({binding['impact']})")
        fact("through", f"{binding['instance']}, connector version {binding['connector_version']}")
        for name, value in binding["params"].items():
            fact("with", f"{name} = {visible(value)}")
        _print_targets(binding["targets"])
    for reason in request.reasons or ("the playbook asks people here",):
        fact("why asked", reason)
    _print_people(approval)
    execute = f", to be done by {moment(approval.execute_by)}" if approval.execute_by else ""
    asked, decide = moment(approval.requested_at), moment(approval.decide_by)
    fact("times", f"asked {asked}, to be decided by {decide}{execute}")
    fact("playbook", f"{binding['playbook']}, sha256 {binding['playbook_sha256']}")
    fact("run", f"{binding['run']}, step {binding['path']}")
    if "policy_revision" in binding:
        fact("policy", f"revision {binding['policy_revision']}")
    fact("digest", approval.digest)


def _print_targets(targets: Sequence[dict[str, Any]]) -> None:
    for target in targets:
        known = {
            name: value for name, value in target.items() if name not in {"type", "id"} and value not in (None, [])
        }
        more = f" ({', '.join(f'{name} {visible(value)}' for name, value in known.items())})" if known else ""
        fact("target", f"{target['type']} {visible(target['id'])}{more}")


def _print_people(approval: Approval) -> None:
    needed = approval.requirement
    fact("must agree", quorums([each.model_dump() for each in needed.groups]))
    if needed.stand_in is not None and approval.escalates_at is not None:
        fact("escalates", f"at {moment(approval.escalates_at)}: {escalation(needed.stand_in.model_dump(mode='json'))}")
    if needed.exclude:
        fact("may not", ", ".join(needed.exclude))
    for vote in approval.votes:
        said = "grants" if vote.decision == "grant" else "denies"
        word = f"answers {visible(vote.answer)}" if vote.answer is not None else said
        why = f": {vote.reason}" if vote.reason else ""
        fact("said", f"{vote.approver} ({', '.join(vote.groups)}) {word}, {moment(vote.at)}, {vote.method}{why}")
    if approval.state is ApprovalState.PENDING:
        fact("missing", f"{missing(approval)}{'; a reason must be given' if needed.reason_required else ''}")


def _print_how(approval: Approval) -> None:
    short, question = short_id(approval.id), "question" in approval.binding
    command = f"answer {short} VALUE" if question else f"grant {short}"
    out.print(f"  [dim]soar approvals {command}[/dim], or [dim]soar approvals deny {short}[/dim]")
