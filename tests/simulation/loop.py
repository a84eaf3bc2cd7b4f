"""An event loop that a seed decides everything in: virtual time, the order of callbacks, and who lives.

Whatever is ready at one instant runs in seeded order. Work for a thread is done inline at a seeded later moment, its
answer comes at a later one still, and either may be cut off by the end of its process.
"""

import asyncio
import contextlib
import contextvars
import heapq
import resource
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from random import Random
from typing import Any

MOST_EVENTS = 200_000
"""A seed that needs more than that comes to no rest."""
QUICK_SECONDS = 0.003
SLOW_SECONDS = 14.0
DISK_FULL_BYTES = 4096  # a file may still be written up to here


class RestlessError(Exception):
    """The seed made the system work without end."""


@dataclass(eq=False)
class Process:
    """A group of callbacks with one fate: they are dropped when it dies, kept back while it is stopped."""

    name: str
    alive: bool = True
    frozen: bool = False
    happened: int = 0  # callbacks run
    fate: dict[int, Callable[[], None]] = field(default_factory=dict)  # by the number of callbacks run
    held: list[asyncio.Handle] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


_Job = tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]


class SimLoop(asyncio.AbstractEventLoop):
    """Runs one main coroutine to its end; nothing in it knows the machine's time."""

    def __init__(self, random: Random, *, disk_seconds: float = QUICK_SECONDS, slow_disk: float = 0.0) -> None:
        self._random = random
        self._disk_seconds = disk_seconds  # that its work takes at most, each way
        self._slow_disk = slow_disk  # share of its work that takes many seconds
        self._now = 0.0
        self._queue: list[tuple[float, float, int, Process | None, asyncio.Handle]] = []
        self._number = 0
        # As with the single threads of the store: first come, first served.
        self._pools: dict[tuple[Process | None, Executor | None], deque[_Job]] = {}
        self._inline = False
        self._ending = False
        self.disk_full = False
        self.errors: list[str] = []

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **kwargs)
        process = PROCESS.get()
        if process is not None:
            process.tasks.append(task)  # held, so that no collector ends it at a moment of its own
        return task

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._push(self._now, handle, context)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._push(max(when, self._now), handle, context)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._ending:
            self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        if self._inline:
            _settle(future, *_done(func, args))
            return future
        if self._ending:
            raise RuntimeError("the process has ended")
        pool = self._pools.setdefault((PROCESS.get(), executor), deque())
        pool.append((future, func, args))
        slow = self._slow_disk and self._random.random() < self._slow_disk
        self.call_later(self._random.random() * (SLOW_SECONDS if slow else self._disk_seconds), self._work, pool)
        return future

    # Time, fate, threads.

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run `main`, and whatever it starts, until it returns."""
        events._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                self._step()
            task.result()
        finally:
            events._set_running_loop(None)

    def immediately(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine that waits for nothing but executors: for who looks on and changes nothing."""
        running, self._inline = events._get_running_loop(), True
        events._set_running_loop(self)
        try:
            coro.send(None)
        except StopIteration as done:
            return done.value
        finally:
            self._inline = False
            events._set_running_loop(running)
            coro.close()
        raise RuntimeError("it waits for more than an executor")

    def calm(self) -> None:
        """The disk is quick from now on, and has room."""
        self._disk_seconds, self._slow_disk, self.disk_full = QUICK_SECONDS, 0.0, False

    def kill(self, process: Process) -> None:
        """It never runs again; what it asked of a disk is done or not, what it put on the network is on its way."""
        process.alive = False

    def freeze(self, process: Process) -> None:
        """SIGSTOP."""
        process.frozen = True

    def thaw(self, process: Process) -> None:
        """SIGCONT: whatever became due meanwhile is due now."""
        process.frozen = False
        held, process.held = process.held, []
        for handle in held:
            self._push_for(process, self._now, handle)

    def bury(self, processes: list[Process]) -> None:
        """End every task that is left, after all is over."""
        self._ending = True
        tasks = [task for process in processes for task in process.tasks if not task.done()]
        for process in processes:
            process.alive, process.fate = True, {}
            self.thaw(process)
        events._set_running_loop(self)
        try:
            while left := [task for task in tasks if not task.done()]:
                for task in left:
                    task.cancel()
                for _ in range(min(20 * len(left), len(self._queue))):
                    self._step()
            for process in processes:
                for task in process.tasks:
                    if not task.cancelled():
                        task.exception()  # seen
        finally:
            events._set_running_loop(None)

    def _push(self, when: float, handle: asyncio.Handle, context: contextvars.Context | None) -> None:
        self._push_for(PROCESS.get() if context is None else context.get(PROCESS), when, handle)

    def _push_for(self, process: Process | None, when: float, handle: asyncio.Handle) -> None:
        self._number += 1
        heapq.heappush(self._queue, (when, self._random.random(), self._number, process, handle))

    def _step(self) -> None:
        if self._number > MOST_EVENTS:
            raise RestlessError(f"no rest after {MOST_EVENTS} events and {self._now:.0f} s of its own time")
        when, _, _, process, handle = heapq.heappop(self._queue)
        self._now = max(self._now, when)
        if handle.cancelled():
            return
        if process is not None:
            if process.frozen or not process.alive:
                process.held.append(handle)
                return
            process.happened += 1
            if (fate := process.fate.pop(process.happened, None)) is not None:
                process.held.append(handle)  # not run any more, or when it goes on
                fate()
                return
        handle._run()

    def _work(self, pool: deque[_Job]) -> None:
        future, func, args = pool.popleft()
        if future.cancelled() or self._ending:
            future.cancel()
            return
        with self._disk():
            result, failure = _done(func, args)
        # The work is done; whoever asked may die before hearing of it.
        self.call_later(self._random.random() * self._disk_seconds, _settle, future, result, failure)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        """A real limit of the system on the size of files, while the disk is full."""
        if not self.disk_full:
            yield
            return
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_FULL_BYTES, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _done(func: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    try:
        return func(*args), None
    except Exception as failure:  # noqa: BLE001 - it belongs to whoever waits, as a thread's does
        return None, failure


def _settle(future: asyncio.Future[Any], result: Any, failure: Exception | None) -> None:
    if future.done():
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(result)
