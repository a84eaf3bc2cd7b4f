"""Servers that outlive the script: in a session of their own, known again by pid *and* birth, stopped in order."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

STOP_SECONDS = 30


class StackError(Exception):
    """A part cannot be had; the text says what is wrong and what to do."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """How a server is started. `user` is a login name to run as; None keeps the caller's."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """A started server, as its pid file tells. `born` sets it apart from a later process with the same pid."""

    pid: int
    born: str
    ports: list[int]
    version: str


class Daemon:
    """One server process, remembered in `folder/pid.json`, printing to `folder/server.log`."""

    def __init__(self, folder: Path, *, stop_signal: signal.Signals) -> None:
        self.pid_file = folder / "pid.json"
        self.log = folder / "server.log"
        self.stop_signal = stop_signal

    def alive(self) -> Record | None:
        """The running server, or None. A recycled pid counts as None."""
        try:
            record = Record(**json.loads(self.pid_file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return record if birth(record.pid) == record.born else None

    def start(self, command: Command, *, ports: Sequence[int], version: str) -> None:
        """Start the server; it goes on when this script ends."""
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command.argv,
                env=dict(command.env),
                user=command.user,
                group=command.user,
                extra_groups=[] if command.user else None,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        born = birth(process.pid)
        if not born:
            raise StackError(f"{command.argv[0]} ended at once with code {process.wait()}; its output is in {self.log}")
        # Written whole or not at all: killed between the two lines, we leave a stray file and no half pid file.
        draft = self.pid_file.with_suffix(".new")
        record = Record(pid=process.pid, born=born, ports=list(ports), version=version)
        draft.write_text(json.dumps(asdict(record)))
        draft.replace(self.pid_file)

    def stop(self) -> bool:
        """Ask the server to end, insist after STOP_SECONDS; False when it was not running."""
        record = self.alive()
        if record:
            os.kill(record.pid, self.stop_signal)
            try:
                wait_until(lambda: birth(record.pid) != record.born, seconds=STOP_SECONDS)
            except StackError:
                os.kill(record.pid, signal.SIGKILL)
        self.pid_file.unlink(missing_ok=True)
        return record is not None


def birth(pid: int) -> str:
    """Boot id and start time in clock ticks (proc(5), stat field 22); "" when `pid` has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    # The name in field 2 may hold spaces and brackets, so the fields are counted from its closing one.
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else f"{boot}/{rest[18]}"


def wait_until(
    holds: Callable[[], object], *, seconds: float, alive: Callable[[], object] = lambda: True, every: float = 0.2
) -> None:
    """Return as soon as `holds()`; StackError after `seconds`, or as soon as `alive()` no longer holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        if not alive():
            raise StackError("the process has ended")
        if time.monotonic() > deadline:
            raise StackError(f"no answer within {seconds:.0f} s")
        time.sleep(every)


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the part to ourselves: two test runs that start it at once must not both start it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
