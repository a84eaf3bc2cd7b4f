"""PostgreSQL from Debian's package, in a cluster of its own; the system's cluster is neither made nor touched."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from os import environ  # noqa: TID251 - this script runs before soar and its settings are installed
from pathlib import Path

from .base import Part, apt_install, call
from .process import Command, Daemon, StackError

# Read by Debian's postgresql-common when the package is installed, see pg_createcluster(1).
NO_SYSTEM_CLUSTER = Path("/etc/postgresql-common/createcluster.d/soar-stack.conf")

# For a checkout that the server's user cannot enter. Only root can write here, so nobody can lay a cluster out for us.
OUTSIDE = Path("/var/lib/soar-stack")


class Postgres(Part):
    """One server with one database, `soar`, owned by the user `soar`."""

    name = "postgres"
    default_ports = (15432,)

    def __init__(self) -> None:
        super().__init__()
        self.daemon = Daemon(self.home, stop_signal=signal.SIGINT)  # SIGINT is PostgreSQL's fast, clean shutdown
        # The server refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None

    @property
    def version(self) -> str:  # type: ignore[override]  # the other parts pin theirs, here Debian's release does
        """PostgreSQL and its major version."""
        binaries = find_binaries()
        return f"PostgreSQL {binaries.parent.name}" if binaries else "PostgreSQL"

    @property
    def binaries(self) -> Path:
        """Where initdb, postgres and psql are."""
        found = find_binaries()
        if not found:
            raise StackError("postgresql is not installed; scripts/stack get postgres installs it")
        return found

    @property
    def cluster(self) -> Path:
        """The cluster's folder, one for each major version; outside .stack/ only where the server cannot enter it."""
        home = self.home
        if self.user and not enterable(home, self.user):
            home = OUTSIDE / sha256(str(home).encode()).hexdigest()[:12]
        return home / f"data-{self.binaries.parent.name}"

    @property
    def password(self) -> str:
        """Made once, with the cluster."""
        return (self.cluster / "soar-password").read_text()

    def get(self) -> None:
        """Install Debian's package when it is missing."""
        if not find_binaries():
            with no_system_cluster():
                apt_install("postgresql", who=self.name)

    def prepare(self) -> None:
        """Make the cluster, the first time: no socket file, passwords only."""
        if (self.cluster / "PG_VERSION").exists():
            return
        shutil.rmtree(self.cluster, ignore_errors=True)  # one that initdb did not finish
        self.cluster.parent.mkdir(parents=True, exist_ok=True)
        draft = self.cluster.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        word = self.cluster.with_suffix(".password")
        word.touch(mode=0o600)
        word.write_text(secrets.token_hex(16))
        if self.user:
            shutil.chown(draft, self.user)
            shutil.chown(word, self.user)
        identity = ["--username=soar", f"--pwfile={word}", "--auth=scram-sha-256"]
        call(
            [str(self.binaries / "initdb"), f"--pgdata={draft}", *identity, "-E", "UTF8", "--no-locale"], user=self.user
        )
        word.replace(draft / "soar-password")
        draft.rename(self.cluster)  # complete from here on

    def command(self) -> Command:
        """The server as a normal installation runs it: fsync and full_page_writes stay on."""
        settings = {"listen_addresses": "127.0.0.1", "port": self.ports[0], "unix_socket_directories": ""}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = [str(self.binaries / "postgres"), "-D", str(self.cluster), *options]
        return Command(argv=argv, env={"PATH": environ["PATH"], "LC_ALL": "C"}, user=self.user)

    def answers(self) -> bool:
        """SELECT 1 as the user soar."""
        try:
            return self.sql("SELECT 1", database="postgres") == "1"
        except (StackError, FileNotFoundError, subprocess.TimeoutExpired):
            return False

    def on_ready(self) -> None:
        """Make the database, the first time."""
        if not self.sql("SELECT 1 FROM pg_database WHERE datname = 'soar'", database="postgres"):
            self.sql("CREATE DATABASE soar", database="postgres")

    def sql(self, statement: str, *, database: str) -> str:
        """Run one statement and return its value as text."""
        url = f"postgresql://soar@{self.address()}/{database}?connect_timeout=5"
        psql = [str(self.binaries / "psql"), "--no-psqlrc", "-qtA", "-v", "ON_ERROR_STOP=1", url, "-c", statement]
        return call(psql, env={"PGPASSWORD": self.password}).strip()

    def environment(self) -> dict[str, str]:
        """The DSN, with its password."""
        if not self.cluster.exists():
            raise StackError("there is no cluster yet; scripts/stack up postgres makes it")
        return {"SOAR_STACK_POSTGRES": f"postgresql://soar:{self.password}@{self.address()}/soar"}

    def data_folders(self) -> list[Path]:
        """The clusters of all major versions."""
        if not find_binaries():
            return []
        folder = self.cluster.parent
        return list(folder.glob("data-*")) if folder == self.home else [folder]


def find_binaries() -> Path | None:
    """The newest of Debian's PostgreSQL servers; psql alone does not count."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: int(path.parent.name), default=None)


def enterable(folder: Path, user: str) -> bool:
    """Whether `user` can reach `folder`; a checkout under a private home cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        pwd.getpwnam(user)
    except KeyError as error:
        raise StackError(f"there is no user {user!r} to run the server as; Debian's postgresql makes it") from error
    probe = subprocess.run(["test", "-x", str(folder)], user=user, group=user, extra_groups=[], cwd="/", check=False)
    return probe.returncode == 0


@contextlib.contextmanager
def no_system_cluster() -> Iterator[None]:
    """Keep the package from making and starting a cluster on port 5432 while it is installed."""
    if os.geteuid() != 0:
        yield
        return
    NO_SYSTEM_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    NO_SYSTEM_CLUSTER.write_text("create_main_cluster = false\n")
    try:
        yield
    finally:
        NO_SYSTEM_CLUSTER.unlink()
