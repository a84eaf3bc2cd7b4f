"""What the parts share: the settings they read, the words they print, the tools they call, and the Part itself."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from os import environ  # noqa: TID251 - this script runs before soar and its settings are installed
from pathlib import Path

from .process import Command, Daemon, StackError

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(environ.get("SOAR_STACK_HOME", ROOT / ".stack")).absolute()
BUILD_SECONDS = 900

_apt = threading.Lock()


class Part:
    """One server. Subclasses say how it is got, prepared, started and asked whether it answers."""

    name: str
    version: str
    default_ports: tuple[int, ...]
    daemon: Daemon

    def __init__(self) -> None:
        self.home = HOME / self.name

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports it runs on, or would: the first from SOAR_STACK_<NAME>_PORT, the others following it."""
        record = self.daemon.alive()
        if record:
            return tuple(record.ports)
        first = setting_port(self.name, self.default_ports[0])
        return tuple(first + offset for offset in range(len(self.default_ports)))

    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.ports[0]}"

    def refuse_taken_ports(self) -> None:
        """Raise StackError naming the first port on which somebody else listens."""
        for port in self.ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise StackError(
                        f"port {port} cannot be used ({error.strerror}); "
                        f"stop what uses it, or set SOAR_STACK_{self.name.upper()}_PORT"
                    ) from error

    def get(self) -> None:
        """Download, build or install; returns at once when that is done already."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Lay out configuration and, the first time, data."""

    def command(self) -> Command:
        """How to start it."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it serves its own protocol, not only accepts connections."""
        raise NotImplementedError

    def on_ready(self) -> None:
        """Finish, over the wire, what only a running server can be asked."""

    def environment(self) -> dict[str, str]:
        """Variables that tell a client where it is."""
        raise NotImplementedError

    def data_folders(self) -> list[Path]:
        """What `wipe` deletes."""
        return [self.home / "data"]


def setting_port(name: str, default: int) -> int:
    """SOAR_STACK_<NAME>_PORT, or the default."""
    text = environ.get(f"SOAR_STACK_{name.upper()}_PORT", str(default))
    if not text.isdecimal() or not 1024 <= int(text) <= 65000:
        raise StackError(f"SOAR_STACK_{name.upper()}_PORT is {text!r}; give a port from 1024 to 65000")
    return int(text)


def say(name: str, text: str) -> None:
    """One line of progress, whole even when parts print at the same time."""
    sys.stdout.write(f"{name:<9} {text}\n")
    sys.stdout.flush()


def call(argv: Sequence[str], *, env: Mapping[str, str] | None = None, user: str | None = None) -> str:
    """Run a command to its end and return what it printed; its last lines are the error when it fails."""
    done = subprocess.run(
        argv,
        env={**environ, **(env or {})},
        user=user,
        group=user,
        extra_groups=[] if user else None,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode:
        raise StackError(f"{argv[0]} failed with code {done.returncode}:\n{indent(done.stdout)}")
    return done.stdout


def need(tool: str, *, package: str, who: str) -> None:
    """Make sure that `tool` is on PATH, installing Debian's `package` where that is possible."""
    if not shutil.which(tool):
        apt_install(package, who=who)
        if not shutil.which(tool):
            raise StackError(f"{tool} is not on PATH although {package} is installed; put it on PATH")


def apt_install(package: str, *, who: str) -> None:
    """Install a Debian package, or say that the person must."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise StackError(
            f"{package} is not installed; install it (Debian: sudo apt-get install {package}) and try again"
        )
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with _apt:  # dpkg refuses a second installation at the same time
        say(who, f"installing {package} with apt-get")
        call([*apt, "update"], env=quiet)
        call([*apt, "-y", "--no-install-recommends", "install", package], env=quiet)


def log_tail(log: Path) -> str:
    """The end of a server's log, indented, with its name."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return f"  the end of {log}:\n{indent(text)}"


def indent(text: str, *, lines: int = 15) -> str:
    """The last lines of a command's output, set in."""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
