"""A store that knows through which write points each change comes to it, and at which the process shall die."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from types import CodeType, FrameType
from typing import Any

from soar.model.entry import Entry
from soar.model.run import RunState
from soar.store.aging import Forgotten
from soar.store.port import Fact, MoveAttempt, Store
from tests.engine.house import TestClock

from .points import WRITES, Place

Way = tuple[str, ...]
"""The write points that a change came through, the outermost first."""
SLATE_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Death:
    """Die at the `number`-th change that came this way, or through this one point; before or after it is durable."""

    way: Way
    number: int
    after: bool


@dataclass(slots=True)
class Told:
    """What a process leaves to those that come after it, however it ends."""

    offset_seconds: float = 0.0  # of its clock
    died_of: list[int] = field(default_factory=list)  # the numbers of the deaths in the list it was given
    died_at: list[tuple[str, bool]] = field(default_factory=list)  # the points there, and whether after
    died_first: int = 0  # how many of the deaths that belong to the story it has behind it
    passed: list[tuple[Way, int]] = field(default_factory=list)  # how many changes came each way, in all lives
    order: list[Way] = field(default_factory=list)  # they, in their order
    error: str = ""
    result: Any = None


class Slate:
    """Memory that forked processes share: what is written on it outlives SIGKILL."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SLATE_BYTES)

    def write(self, told: Told) -> None:
        """Replace what stands on it."""
        text = json.dumps(asdict(told)).encode()
        self._memory[:8] = (0).to_bytes(8, "big")
        self._memory[8 : 8 + len(text)] = text
        self._memory[:8] = len(text).to_bytes(8, "big")

    def read(self) -> Told:
        """What stands on it."""
        size = int.from_bytes(self._memory[:8], "big")
        told = Told(**json.loads(self._memory[8 : 8 + size])) if size else Told()
        told.passed = [(tuple(way), number) for way, number in told.passed]
        told.order = [tuple(way) for way in told.order]
        told.died_at = [(point, after) for point, after in told.died_at]
        return told


class Watch:
    """Counts changes by their ways, and ends the process where it is told to.

    `first` are deaths that belong to the story, in their order: each before a change that says the word.
    """

    def __init__(
        self,
        points: Mapping[Place, str],
        slate: Slate,
        clock: TestClock,
        *,
        deaths: Sequence[Death] = (),
        first: Sequence[str] = (),
    ) -> None:
        self._points = points
        self._clock = clock
        self._slate = slate
        self._deaths = {death: number for number, death in enumerate(deaths)}
        self._first = first
        self._told = slate.read()
        self._told.died_of, self._told.died_at = [], []
        self._counts = Counter(dict(self._told.passed))
        self._places: dict[tuple[CodeType, int], str | None] = {}
        # A life after a death begins when the lease of the dead one is over.
        clock.offset = timedelta(seconds=self._told.offset_seconds + 31)

    def before(self, ways: Sequence[Way], words: Collection[str]) -> None:
        """What comes now is not durable yet."""
        if self._told.died_first < len(self._first) and self._first[self._told.died_first] in words:
            self._told.died_first += 1
            self._die()
        self._count(Counter(self._counts), ways, after=False)

    def after(self, ways: Sequence[Way]) -> None:
        """It is durable."""
        self._told.order += ways
        self._count(self._counts, ways, after=True)

    def _count(self, counts: Counter[Way], ways: Sequence[Way], *, after: bool) -> None:
        for way in ways:
            for key in {way, *((point,) for point in way)}:
                counts[key] += 1
                number = self._deaths.get(Death(key, counts[key], after))
                if number is not None:
                    self._told.died_of.append(number)
        if self._told.died_of:
            self._told.died_at = [(point, after) for way in ways for point in way]
            self._die()

    def end(self, result: Any) -> None:
        """Leave word that this life came to its end."""
        self._told.result = result
        self._leave()

    def fail(self, error: str) -> None:
        """Leave word of what went wrong."""
        self._told.error = error
        self._leave()

    def _die(self) -> None:
        self._leave()
        os.kill(os.getpid(), signal.SIGKILL)

    def _leave(self) -> None:
        self._told.offset_seconds = self._clock.offset.total_seconds()
        self._told.passed = list(self._counts.items())
        self._slate.write(self._told)

    def way_of(self, frames: Sequence[FrameType]) -> Way:
        """The write points at which these frames stand."""
        return tuple(name for frame in frames if (name := self._point(frame)) is not None)

    def _point(self, frame: FrameType) -> str | None:
        """The point at which a frame waits: Python knows where in the source each instruction comes from."""
        key = (frame.f_code, frame.f_lasti)
        if key not in self._places:
            line, _, column, _ = list(frame.f_code.co_positions())[frame.f_lasti // 2]
            self._places[key] = self._points.get((frame.f_code.co_filename, line or 0, column or 0))
        return self._places[key]


class WatchedStore:
    """A store under watch; it does what the store within does."""

    def __init__(self, inner: Store, watch: Watch) -> None:
        self.inner = inner
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name not in WRITES:
            return found

        async def change(*args: Any, **kwargs: Any) -> Any:
            direct = self._watch.way_of(_frames_here())
            if name == "forget":
                return await self._forget(direct, *args, **kwargs)
            if name == "commit":
                ways = [way + direct for way in self._ways_to(args[0])]
            elif name == "lease" and not await self._anything_ready():
                ways = []  # nothing is changed
            else:
                ways = [direct]
            self._watch.before(ways, _words(name, args))
            result = await found(*args, **kwargs)
            self._watch.after(ways)
            return result

        return change

    async def _forget(self, way: Way, before: datetime, *, limit: int, tell: Callable[[Forgotten], Entry]) -> Forgotten:
        """It changes something only where it tells; then nothing of it is durable yet."""

        def telling(gone: Forgotten) -> Entry:
            self._watch.before([way], {"forget"})
            return tell(gone)

        forgotten = await self.inner.forget(before, limit=limit, tell=telling)
        if forgotten.rows:
            self._watch.after([way])
        return forgotten

    async def _anything_ready(self) -> bool:
        return any(not run.paused for run in await self.inner.runs(state=RunState.READY))

    def _ways_to(self, facts: Sequence[Fact]) -> list[Way]:
        """The way of each fact to the task that commits it: it stands in the frames of the task that waits for it."""
        waiting: dict[int, Way] = {id(fact): () for fact in facts}
        for task in asyncio.all_tasks():
            frames = list(_frames_of(task))
            held = [id(value) for frame in frames for value in frame.f_locals.values() if id(value) in waiting]
            waiting |= {each: self._watch.way_of(frames) for each in held}
        return [waiting[id(fact)] for fact in facts]


def _words(name: str, args: Sequence[Any]) -> set[str]:
    """What a change is called by: its name, and how it moves attempts."""
    facts = args[0] if name == "commit" else ()
    moves = [write for fact in facts for write in fact.writes if isinstance(write, MoveAttempt)]
    return {name, *(f"MoveAttempt {move.attempt.state.value}" for move in moves)}


def _frames_here() -> list[FrameType]:
    """The frames of what runs now, the outermost first."""
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _frames_of(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """The frames of a task that waits, the outermost first; none of the task that runs."""
    coroutine: Any = task.get_coro()
    while coroutine is not None and getattr(coroutine, "cr_frame", None) is not None and not coroutine.cr_running:
        yield coroutine.cr_frame
        coroutine = coroutine.cr_await
