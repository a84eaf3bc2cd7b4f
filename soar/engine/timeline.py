"""A run's journal entries as lines that a person reads: what happened, in which step, by whom and why.

One entry is one line, unless it says nothing that the line before it has not said: a step that ends the way its call
ended, a denied step after the denial, a computed step that replay found again. Texts come from alerts and from other
systems, so whoever prints a line must make it harmless first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from soar.engine.wording import as_json, awaited, brief, escalation, moment, quorums, short_digest
from soar.journal.leaf import parse_leaf
from soar.model.duration import format_duration
from soar.model.entry import EntryType
from soar.store.seen import EntryRow

_ALWAYS_NEW = frozenset({"nonce", "expires"})  # of a binding
_SAID_BY_PEOPLE = frozenset({"approval_denied", "approval_expired", "approval_cancelled"})
_READBACK = re.compile(r"\.verify\[\d+\]$")


class Tone(StrEnum):
    """How a line may be coloured."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that happened; `path` is the step, empty for the run itself. `times` counts equal lines in a row."""

    at: datetime
    path: str
    text: str
    tone: Tone = Tone.PLAIN
    notes: tuple[str, ...] = ()
    times: int = 1


def timeline(rows: Iterable[EntryRow]) -> list[Line]:
    """The lines of one run's entries, in their order; raises JournalError for an entry that cannot be read."""
    seen = _Seen()
    lines: list[Line] = []
    for row in rows:
        fact = _Fact.of(row)
        line = _TELLERS.get(fact.type, _anything)(fact, seen)
        if fact.word:
            seen.last[fact.subject] = (fact.type, fact.word)
        if line is None:
            continue
        last = lines[-1] if lines else None
        if last and (last.path, last.text, last.notes) == (line.path, line.text, line.notes):
            lines[-1] = replace(last, times=last.times + 1)
        else:
            lines.append(line)
    return lines


@dataclass(frozen=True, slots=True)
class _Fact:
    """An entry, read."""

    at: datetime
    type: str
    actor: str
    subject: str
    data: Mapping[str, Any]
    payload: Mapping[str, Any]
    erased: bool

    @classmethod
    def of(cls, row: EntryRow) -> _Fact:
        leaf = parse_leaf(row.leaf)
        payload = json.loads(row.payload) if row.payload is not None else {}
        erased = "payload" in leaf and row.payload is None
        return cls(row.at, row.type, leaf["actor"], leaf["subject"], leaf["data"], payload, erased)

    @property
    def word(self) -> str:
        """The one word that says how it stands."""
        return str(self.data.get("state", self.data.get("effect", "")))

    @property
    def person(self) -> str:
        """Who did it, without the kind of actor."""
        return self.actor.removeprefix("person:")

    @property
    def because(self) -> str:
        """The reason that a person gave, as the end of a sentence."""
        reason = self.payload.get("reason")
        return f": {reason}" if reason else ""

    def line(self, text: str, tone: Tone = Tone.PLAIN, *, path: str | None = None, notes: Iterable[str] = ()) -> Line:
        gone = ("the details of this entry were erased",) if self.erased else ()
        return Line(
            at=self.at, path=self.subject if path is None else path, text=text, tone=tone, notes=(*notes, *gone)
        )


@dataclass
class _Seen:
    """What earlier entries of the run said."""

    last: dict[str, tuple[str, str]] = field(default_factory=dict)  # subject -> type and word of its last entry
    asked: dict[str, tuple[str, bool]] = field(default_factory=dict)  # approval -> step, whether it is a question
    bound: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # step -> what people were shown last
    revision: str = ""  # of policy, as told last
    ended: set[str] = field(default_factory=set)  # ends of steps, told once

    def told(self, fact: _Fact) -> bool:
        key = as_json([fact.subject, dict(fact.data), dict(fact.payload)])
        known = key in self.ended
        self.ended.add(key)
        return known


_Teller = Callable[[_Fact, _Seen], Line | None]


def _anything(fact: _Fact, _: _Seen) -> Line:
    return fact.line(f"{fact.type} {brief(fact.data)}".rstrip())


def _created(fact: _Fact, _: _Seen) -> Line:
    data, parent = fact.data, fact.data.get("parent")
    playbook = f"playbook {data.get('playbook')}"
    match data.get("kind"):
        case "alert":
            text = f"{playbook} answers alert {data.get('alert')}"
        case "call":
            text = f"{playbook} is called by step {data.get('parent_path')} of run {parent}"
        case "undo":
            values = fact.payload.get("vars", {})
            how = f" by {values.get('use')} {brief(values.get('params', {}))}"
            text = f"takes back step {data.get('parent_path')} of run {parent}{how if values else ''}"
        case "notice":
            whom = fact.payload.get("vars", {}).get("channel")
            text = f"tells {whom or 'a group'} of step {data.get('parent_path')} of run {parent}, as policy wants"
        case _:
            text = f"{playbook} is started by hand"
    return fact.line(text, path="", notes=[f"playbook digest {short_digest(data.get('playbook_digest'))}"])


def _decided(fact: _Fact, seen: _Seen) -> Line | None:
    decision, question = fact.payload.get("decision", {}), fact.payload.get("input", {})
    action = question.get("action", {})
    call = f"{action['connector']}.{action['verb']} {brief(action.get('params', {}))}" if action else "the action"
    again = "checked again before sending: " if question.get("phase") == "execute" else ""
    revision = short_digest(fact.data.get("revision"))
    by = f"policy {revision}" if fact.word != "allow" or revision != seen.revision else "policy"
    seen.revision = revision
    why = [f"{reason['msg']} [{reason['code']}]" for reason in decision.get("reasons", ())]
    why += [f"warning: {warning}" for warning in decision.get("warnings", ())]
    obligations = decision.get("obligations", ())
    why += [_DUTIES[each["type"]].format(**each) for each in obligations if each["type"] in _DUTIES]
    match fact.word:
        case "allow" if _READBACK.search(fact.subject):
            return None
        case "allow":
            return fact.line(f"{again}{by} allows {call}", notes=why)
        case "deny":
            return fact.line(f"{again}{by} denies {call}", Tone.BAD, notes=why)
    groups = [group for each in obligations if each["type"] == "approval" for group in each["groups"]]
    return fact.line(f"{again}{by} wants the consent of {quorums(groups)} to {call}", Tone.WAIT, notes=why)


_DUTIES = MappingProxyType(
    {
        "expire": "to be taken back after {after}",
        "rate": "at most {limit} in {window} under {key}",
        "notify": "{group} is told: {msg}",
    }
)


def _asked(fact: _Fact, seen: _Seen) -> Line:
    binding = fact.payload.get("binding", {})
    question = binding.get("question")
    path = str(binding.get("path", ""))
    seen.asked[fact.subject] = (path, question is not None)
    groups = fact.payload.get("requirement", {}).get("groups", ())
    people = quorums(groups) if groups else "people"
    until = f", until {moment(binding['expires'])}" if binding else ""
    text = f"asks {people}: {question}{until}" if question else f"asks {people} for consent{until}"
    notes = [f"{fact.subject}, digest {short_digest(fact.data.get('digest'))}"]
    before = seen.bound.get(path, {})
    changed = [name for name in before if name not in _ALWAYS_NEW and before[name] != binding.get(name)]
    notes += [f"changed since people were asked before: {', '.join(changed)}"] if changed else []
    seen.bound[path] = binding
    return fact.line(text, Tone.WAIT, path=path, notes=notes)


def _voted(fact: _Fact, seen: _Seen) -> Line:
    path, question = seen.asked.get(fact.subject, ("", False))
    granted = fact.data.get("decision") == "grant"
    word = "grants it" if granted else "denies it"
    if question:
        answer = f"answers {as_json(fact.payload['answer'])}" if "answer" in fact.payload else "answers"
        word = answer if granted else "declines to answer"
    text = f"{fact.person} {word} ({fact.data.get('method')}){fact.because}"
    return fact.line(text, Tone.GOOD if granted else Tone.BAD, path=path)


def _escalated(fact: _Fact, seen: _Seen) -> Line:
    path, _ = seen.asked.get(fact.subject, ("", False))
    return fact.line(f"nobody has decided: {escalation(fact.payload)}", Tone.WAIT, path=path)


def _closed(fact: _Fact, seen: _Seen) -> Line | None:
    path, question = seen.asked.get(fact.subject, ("", False))
    match fact.word:
        case "denied":
            return None  # the vote said so
        case "granted":
            return None if question else fact.line("all who must agree have agreed", Tone.GOOD, path=path)
        case "superseded":
            return fact.line("what would be sent is no longer what people were shown; their consent is void", path=path)
        case "cancelled":
            return fact.line("the request to people is withdrawn", path=path)
    return fact.line("the time for it is over; that counts as a no", Tone.BAD, path=path)


def _consumed(fact: _Fact, _: _Seen) -> Line:
    return fact.line("the consent is used, for this one call", path=str(fact.data.get("path", "")))


def _intent(fact: _Fact, _: _Seen) -> Line | None:
    if _READBACK.search(fact.subject):
        return None
    attempt = fact.data.get("attempt", 1)
    return fact.line(f"sends {fact.data.get('action')}{f', try {attempt}' if attempt != 1 else ''}")


def _outcome(fact: _Fact, _: _Seen) -> Line:
    result, error = fact.payload.get("result"), fact.payload.get("error")
    path = _READBACK.sub("", fact.subject)
    looked = path != fact.subject
    match fact.word:
        case "succeeded":
            answer = f": {brief(result)}" if result else ""
            return fact.line(f"{'reads back' if looked else 'it worked'}{answer}", Tone.GOOD, path=path)
        case "unknown":
            return fact.line(f"whether it happened is not known: {error}", Tone.BAD, path=path)
    return fact.line(f"{'reading back' if looked else 'it'} failed{_error(fact)}", Tone.BAD, path=path)


def _waiting(fact: _Fact, _: _Seen) -> Line | None:
    data = fact.payload.get("data", {})
    if data.get("phase") in {"approval", "answer"}:
        return None  # the request to people said so
    if data.get("phase") == "begun":
        return fact.line(f"has until {moment(data['until'])}")
    return fact.line(f"waits for {awaited(data)}", Tone.WAIT)


def _finished(fact: _Fact, seen: _Seen) -> Line | None:
    before, code = seen.last.get(fact.subject), fact.data.get("code")
    called = before == (EntryType.ACTION_OUTCOME, fact.word) and fact.word != "unknown"
    refused = code in _SAID_BY_PEOPLE or (before == (EntryType.POLICY_DECIDED, "deny") and code == "policy_denied")
    if seen.told(fact) or called or refused:
        return None
    match fact.word:
        case "succeeded":
            return fact.line(_done(fact, before), Tone.GOOD if before else Tone.PLAIN)
        case "skipped" if code == "shadow":
            return fact.line("not sent: the playbook is in shadow mode")
        case "skipped":
            return fact.line("skipped: its condition does not hold")
        case "unknown":
            return fact.line(f"a person must say whether it happened{_error(fact)}", Tone.BAD)
    return fact.line(f"{fact.word}{_error(fact)}", Tone.BAD)


def _done(fact: _Fact, before: tuple[str, str] | None) -> str:
    """How a step that succeeded says so, by its kind."""
    result = fact.payload.get("result")
    match fact.data.get("kind"):
        case "if":
            text = "the condition holds" if result == "then" else "the condition does not hold"
        case "switch":
            text = f"takes {result}"
        case "foreach":
            count = len(result) if isinstance(result, list) else 0
            text = f"went through {count} {'element' if count == 1 else 'elements'}"
        case "parallel":
            text = "all branches have ended"
        case "set":
            text = f"sets {brief(result)}" if result else "sets values"
        case "stop":
            text = f"stops here: {result}" if result else "stops here"
        case "call":
            text = f"the sub-run succeeded: {brief(result)}" if result else "the sub-run succeeded"
        case "ask" if isinstance(result, Mapping):
            text = f"the answer is {as_json(result.get('answer'))}, by {', '.join(result.get('by', ()))}"
        case "use" if before == (EntryType.STEP_WAITING, "waiting"):
            text = "confirmed by reading back"
        case _:
            text = f"the awaited alert came: {fact.data['alert']}" if "alert" in fact.data else "done"
    return text


def _undo(fact: _Fact, _: _Seen) -> Line:
    seconds, use = int(fact.data.get("after_seconds", 0)), fact.data.get("use")
    if seconds:
        text = f"will be taken back by {use} after {format_duration(timedelta(seconds=seconds))}"
    else:
        text = f"{fact.person} has it taken back by {use}"
    return fact.line(text, notes=[f"undo run {fact.data.get('run')}"])


def _recovered(fact: _Fact, _: _Seen) -> Line:
    return fact.line(f"worker {fact.data.get('owner')} went silent; another one goes on", Tone.BAD, path="")


def _by_person(words: str) -> _Teller:
    return lambda fact, _: fact.line(f"{fact.person} {words}{fact.because}", path="")


def _retried(fact: _Fact, seen: _Seen) -> Line:
    seen.ended.clear()  # what is done again is told again
    steps, start = fact.data.get("steps"), fact.payload.get("from")
    what = f"everything from {start} on" if start else f"{steps} failed or denied steps"
    repeats = fact.payload.get("repeats")
    notes = [f"repeats what was done: {', '.join(repeats)}"] if repeats else []
    return fact.line(f"{fact.person} has {what} done again{fact.because}", path="", notes=notes)


def _skipped(fact: _Fact, _: _Seen) -> Line:
    return fact.line(f"{fact.person} has it skipped{fact.because}")


def _resolved(fact: _Fact, _: _Seen) -> Line:
    word = "it happened" if fact.data.get("happened") else "it did not happen"
    return fact.line(f"{fact.person} says that {word}{fact.because}", path="")


def _run_finished(fact: _Fact, _: _Seen) -> Line:
    outputs, error = fact.payload.get("outputs"), fact.payload.get("error")
    notes = [str(error)] if error else []
    notes += [f"outputs: {brief(outputs)}"] if outputs else []
    if fact.word == "needs_review":
        return fact.line("stops: a person must say what happened (soar runs resolve)", Tone.BAD, path="", notes=notes)
    tone = Tone.GOOD if fact.word == "succeeded" else Tone.BAD
    return fact.line(f"the run ends: {fact.word}", tone, path="", notes=notes)


def _refused(fact: _Fact, _: _Seen) -> Line:
    why = fact.payload.get("why")
    return fact.line(f"{fact.person} may not {fact.data.get('deed')}{f': {why}' if why else ''}", Tone.BAD, path="")


def _error(fact: _Fact) -> str:
    error, code = fact.payload.get("error"), fact.data.get("code")
    return "".join((f": {error}" if error else "", f" [{code}]" if code else ""))


_TELLERS: Mapping[str, _Teller] = MappingProxyType(
    {
        EntryType.RUN_CREATED: _created,
        EntryType.RUN_RECOVERED: _recovered,
        EntryType.RUN_CANCEL_REQUESTED: _by_person("asks for the run's end"),
        EntryType.RUN_PAUSED: _by_person("pauses the run"),
        EntryType.RUN_RESUMED: _by_person("lets the run go on"),
        EntryType.RUN_RETRIED: _retried,
        EntryType.RUN_RESOLVED: _resolved,
        EntryType.RUN_FINISHED: _run_finished,
        EntryType.STEP_WAITING: _waiting,
        EntryType.STEP_FINISHED: _finished,
        EntryType.STEP_SKIPPED: _skipped,
        EntryType.POLICY_DECIDED: _decided,
        EntryType.APPROVAL_REQUESTED: _asked,
        EntryType.APPROVAL_VOTED: _voted,
        EntryType.APPROVAL_ESCALATED: _escalated,
        EntryType.APPROVAL_CLOSED: _closed,
        EntryType.APPROVAL_CONSUMED: _consumed,
        EntryType.ACTION_INTENT: _intent,
        EntryType.ACTION_OUTCOME: _outcome,
        EntryType.UNDO_SCHEDULED: _undo,
        EntryType.PERSON_REFUSED: _refused,
    }
)
