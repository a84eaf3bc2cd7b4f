"""Old questions under changed rules: which journalled decisions would differ, and why.

A decision follows from the fields that the rules read (`soar.policy.reads`), so equal ones are decided once. Where
there are many, processes share the work: the embedded engine holds the interpreter while it evaluates.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, Self

import orjson

from soar import logs
from soar.errors import PolicyUnavailableError
from soar.model.clock import UlidSource
from soar.model.decision import INPUT_SCHEMA, Decision
from soar.policy.bundle import Bundle
from soar.policy.embedded import EmbeddedEngine
from soar.policy.gate import Document, Gate
from soar.policy.reads import Memory

PAGE: Final = 1000
"""Decisions that are compared at a time."""
_REMEMBERED = 100_000
_SECONDS = 600.0  # nobody waits for a replay to send something

WORDS: Final = {"allow": "allow", "require_approval": "ask", "deny": "deny"}
"""Verdicts as flips are told: `ask->allow`."""
_STRICT: Final = ("allow", "ask", "deny")


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a decision says. `people` are those whom it asks; reasons are (code, control, msg)."""

    effect: str
    people: str
    reasons: tuple[tuple[str, str, str], ...]

    @classmethod
    def of(cls, decision: dict[str, Any]) -> Ruling:
        """From a decision as the journal keeps it; raises KeyError and TypeError for what is none."""
        people = [
            f"{group['min']} of {group['group']}"
            for obligation in decision["obligations"]
            if obligation["type"] == "approval"
            for group in obligation["groups"]
        ]
        reasons = tuple((each["code"], each["control"], each["msg"]) for each in decision["reasons"])
        return cls(WORDS[decision["effect"]], ", ".join(sorted(people)), reasons)

    def same(self, other: Ruling) -> bool:
        """Whether the same may happen, once the same people agree; reasons are not compared."""
        return (self.effect, self.people) == (other.effect, other.people)

    def apart(self, other: Ruling) -> tuple[str, ...]:
        """The controls of which only one of both has a reason of that code."""
        mine, theirs = ({(code, control) for code, control, _ in each.reasons} for each in (self, other))
        return tuple(sorted({control for _, control in mine ^ theirs})) or ("decision",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A journalled decision: where it stands, what was asked, what was said and under which revision."""

    index: int
    at: str
    run: str
    path: str
    id: str
    revision: str
    question: Document
    ruling: Ruling

    @property
    def action(self) -> str:
        """What was to be done, and to whom."""
        return action_of(self.question)


def action_of(question: Document) -> str:
    """What a question wants to do, and to whom."""
    action = question["action"]
    return " ".join([f"{action['connector']}.{action['verb']}", *(each["id"] for each in action["targets"])])


class UndecidableError(Exception):
    """Why a journalled question cannot be asked again, in a few words that many share."""


def read_past(leaf: dict[str, Any], payload: bytes | None, *, index: int, away: bool = False) -> Past:
    """The decision in a `policy.decided` entry; raises `UndecidableError`."""
    if payload is None:
        raise UndecidableError("its archive file is not here" if away else "its payload was erased")
    try:
        kept = orjson.loads(payload)
        question, decision = kept["input"], kept["decision"]
        schema = question["schema"]
        past = Past(
            index=index,
            at=str(leaf["at"]),
            run=str(leaf.get("run", "")),
            path=str(leaf["subject"]),
            id=str(decision["id"]),
            revision=str(decision["revision"]),
            question=question,
            ruling=Ruling.of(decision),
        )
    except (ValueError, KeyError, TypeError) as failure:
        raise UndecidableError("its payload is no decision") from failure
    if schema != INPUT_SCHEMA:
        raise UndecidableError(f"it was asked as {schema!s:.40}, policies here are asked {INPUT_SCHEMA}")
    if any(code == "gate.input" for code, _, _ in past.ruling.reasons):
        raise UndecidableError("its input held a number that JSON does not keep")
    return past


@dataclass(frozen=True, slots=True)
class Flip:
    """A decision that would be another one."""

    past: Past
    new: Ruling

    @property
    def kind(self) -> str:
        """Such as `allow->deny`; `ask->ask` where other people are asked."""
        return f"{self.past.ruling.effect}->{self.new.effect}"

    @property
    def stricter(self) -> bool:
        """Whether less may happen now; other people who are asked count as stricter and looser, as nobody can tell."""
        return _STRICT.index(self.new.effect) >= _STRICT.index(self.past.ruling.effect)

    @property
    def looser(self) -> bool:
        """Whether more may happen now."""
        return _STRICT.index(self.new.effect) <= _STRICT.index(self.past.ruling.effect)

    @property
    def controls(self) -> tuple[str, ...]:
        """The controls that say something else now."""
        return self.past.ruling.apart(self.new)


class Bench:
    """Decides under one bundle as the gate would, in this process, for nobody who waits to send."""

    def __init__(self, bundle: Bundle, *, honours: Iterable[str]) -> None:
        self._engine = EmbeddedEngine(bundle, timeout_seconds=_SECONDS)
        controls = bundle.mandatory_controls
        self._gate = Gate(self._engine, mandatory_controls=controls, ids=UlidSource(), honours=honours)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the engine."""
        self._runner.run(self._engine.close())
        self._runner.close()

    def decide(self, questions: Sequence[Document]) -> list[Decision]:
        """The decisions, in the order of the questions."""
        return self._runner.run(self._gate.decide_many(questions)) if questions else []

    def rule(self, questions: Sequence[Document]) -> list[Ruling]:
        """What the decisions say."""
        return [Ruling.of(decision.model_dump(mode="json")) for decision in self.decide(questions)]


class _Child:
    """A process with a bench of its own. One page is under way at a time, so neither side waits for a full pipe."""

    def __init__(self, bundle: Bundle, honours: tuple[str, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(bundle, honours, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, questions: Sequence[Document]) -> None:
        self._ours.send(questions)

    def answer(self) -> list[Ruling]:
        try:
            rulings: list[Ruling] = self._ours.recv()
        except EOFError as failure:
            raise PolicyUnavailableError("a process that replays decisions ended; see above for why") from failure
        return rulings

    def close(self) -> None:
        self._ours.close()  # the child reads the end of it, and ends
        self._process.join()
        self._process.close()


def _serve(bundle: Bundle, honours: tuple[str, ...], pipe: Connection) -> None:
    logs.configure(level="error")  # what a question is refused for is in its decision
    with Bench(bundle, honours=honours) as bench, contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            pipe.send(bench.rule(pipe.recv()))


class _Alone:
    """The same without a process, where starting one would take longer than the work."""

    def __init__(self, bundle: Bundle, honours: tuple[str, ...]) -> None:
        self._bench = Bench(bundle, honours=honours)
        self._rulings: list[Ruling] = []

    def ask(self, questions: Sequence[Document]) -> None:
        self._rulings = self._bench.rule(questions)

    def answer(self) -> list[Ruling]:
        return self._rulings

    def close(self) -> None:
        self._bench.close()


@dataclass(slots=True)
class _Page:
    """Decisions with the keys of their questions, and what is known of those; `new` is being decided by `judge`."""

    pasts: Sequence[Past]
    keys: list[bytes]
    known: dict[bytes, Ruling]
    new: list[bytes]
    judge: _Child | _Alone


class Backtest:
    """Replays decisions under a bundle. Memory holds a page for each process and the rulings of so many questions.

    `decided` counts what was compared, `distinct` what was really evaluated.
    """

    def __init__(self, bundle: Bundle, *, honours: Iterable[str], processes: int = 1) -> None:
        self.decided = 0
        self.distinct = 0
        self._bundle = bundle
        self._honours = tuple(honours)
        self._processes = processes
        self._key = Memory(bundle.reads).key
        self._remembered: dict[bytes, Ruling] = {}

    def flips(self, pasts: Iterable[Past]) -> Iterator[Flip]:
        """The decisions that would differ, in the order of the journal."""
        under_way: deque[_Page] = deque()
        make = _Child if self._processes > 1 else _Alone
        with contextlib.ExitStack() as held:
            judges = [make(self._bundle, self._honours) for _ in range(self._processes)]
            for judge in judges:
                held.callback(judge.close)
            waiting, turn = iter(pasts), cycle(judges)
            while page := list(islice(waiting, PAGE)):
                if len(under_way) == len(judges):
                    yield from self._compared(under_way.popleft())
                under_way.append(self._asked(page, next(turn)))
            while under_way:
                yield from self._compared(under_way.popleft())

    def _asked(self, pasts: Sequence[Past], judge: _Child | _Alone) -> _Page:
        keys = [hashlib.blake2b(self._key(past.question), digest_size=16).digest() for past in pasts]
        known = {key: self._remembered[key] for key in keys if key in self._remembered}
        new = {key: past.question for key, past in zip(keys, pasts, strict=True) if key not in known}
        judge.ask(list(new.values()))
        return _Page(pasts, keys, known, list(new), judge)

    def _compared(self, page: _Page) -> Iterator[Flip]:
        page.known.update(zip(page.new, page.judge.answer(), strict=True))
        if len(self._remembered) + len(page.new) > _REMEMBERED:
            self._remembered.clear()
        self._remembered.update((key, page.known[key]) for key in page.new)
        self.decided += len(page.pasts)
        self.distinct += len(page.new)
        for past, key in zip(page.pasts, page.keys, strict=True):
            new = page.known[key]
            if not past.ruling.same(new):
                yield Flip(past, new)
