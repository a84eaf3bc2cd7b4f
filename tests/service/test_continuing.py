"""A backup is restored: nothing is signed, until a person lets the journal go on under a name that tells of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import asyncpg
import pytest
import structlog
import yaml
from typer.testing import CliRunner

from soar.cli.app import app
from soar.cli.base import exit_code
from soar.demo.home import make_home
from soar.demo.samples import samples
from soar.errors import SoarError
from soar.journal.note import Verifier, open_note
from soar.journal.proof import EntryProof
from soar.journal.rotation import follow
from soar.journal.trust import TrustPolicy, claimed
from soar.model.clock import SystemClock
from soar.service import assemble, read_key
from soar.settings import load_settings

SOAR = [sys.executable, "-m", "soar"]
NEW = "soar.local/second"
WHY = ("--reason", "disk lost, backup of yesterday restored")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Home:
    """A service's folder, with a way to back its store up and to restore it, and a witness beside it."""

    config: Path
    url: str | None = None
    witness: subprocess.Popen[bytes] | None = None
    logs: list[str] = field(default_factory=list)

    @property
    def anchor(self) -> Path:
        return self.config.parent / "anchor"

    @property
    def verifier(self) -> Verifier:
        return read_key(load_settings(self.config, environ={})).verifier

    @property
    def environ(self) -> dict[str, str]:
        return {} if self.url is None else {"SOAR_STORE__URL": "secret://env/DATABASE", "DATABASE": self.url}

    def admit(self, topic: str) -> str | None:
        """Start, take alerts in, sign; gives why nothing is signed, if so."""

        async def work() -> str | None:
            async with assemble(load_settings(self.config, self.environ)) as service:
                sequencer = service.sequencer()
                await sequencer.check()
                await service.intake().admit(samples(SystemClock().now(), topic=topic))
                await sequencer.sign()
                await sequencer.close()
                return sequencer.disowned

        why = asyncio.run(work())
        structlog.reset_defaults()
        return why

    def newest(self) -> str:
        async def work() -> str:
            async with assemble(load_settings(self.config, self.environ)) as service:
                return (await service.store.checkpoints(newest=1))[0]

        note = asyncio.run(work())
        structlog.reset_defaults()
        return note

    def soar(self, *words: object) -> Ended:
        """Run a command."""
        config = () if words[1] == "check" else ("--config", str(self.config))
        ended = CliRunner(env=self.environ).invoke(app, [*map(str, words), *config])
        structlog.reset_defaults()
        if isinstance(ended.exception, SoarError):
            return Ended(exit_code(ended.exception), ended.stdout, str(ended.exception))
        if ended.exception is not None and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        return Ended(ended.exit_code, ended.stdout, ended.stderr)

    def rename(self, origin: str) -> None:
        document = yaml.safe_load(self.config.read_text())
        document["journal"]["origin"] = origin
        self.config.write_text(yaml.safe_dump(document))

    def copy(self, to: Literal["backup", "data"]) -> None:
        """Back up, or restore."""
        if self.url is None:
            data, backup = self.config.parent / "data", self.config.parent / "backup"
            source, target = (data, backup) if to == "backup" else (backup, data)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
            return
        asyncio.run(self._copy_schema(to))

    async def _copy_schema(self, to: str) -> None:
        assert self.url is not None
        dsn, _, schema = self.url.partition("?search_path=")
        source, target = (schema, f"{schema}_backup") if to == "backup" else (f"{schema}_backup", schema)
        db = await asyncpg.connect(dsn)
        async with db.transaction():
            await db.execute("SET LOCAL session_replication_role = replica")  # the triggers refuse what a restore does
            names = "SELECT tablename FROM pg_tables WHERE schemaname = $1"
            tables = [row["tablename"] for row in await db.fetch(names, source)]
            if to == "backup":
                await db.execute(f"DROP SCHEMA IF EXISTS {target} CASCADE")
                await db.execute(f"CREATE SCHEMA {target}")
            for table in tables:
                if to == "backup":
                    await db.execute(f"CREATE TABLE {target}.{table} AS TABLE {source}.{table}")
                else:
                    await db.execute(f"DELETE FROM {target}.{table}")
                    await db.execute(f"INSERT INTO {target}.{table} SELECT * FROM {source}.{table}")
        await db.close()


@contextlib.contextmanager
def witnessing(home: Home, folder: Path, port: int) -> Iterator[None]:
    """`soar witness` as its own process, for the logs that the home names."""
    logs = [word for log in home.logs for word in ("--log", log)]
    arguments = ["--key", folder / "witness.key", "--memory", folder / "memory", "--port", str(port)]
    process = subprocess.Popen([*SOAR, "witness", "run", *arguments, *logs], stdout=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    make_home(tmp_path / "home")
    made = Home(tmp_path / "home" / "soar.yaml")
    if request.param == "sqlite":
        yield made
        return
    dsn, schema = request.getfixturevalue("postgres"), f"test_{secrets.token_hex(6)}"
    asyncio.run(_execute(dsn, f"CREATE SCHEMA {schema}"))
    made.url = f"{dsn}?search_path={schema}"
    yield made
    asyncio.run(_execute(dsn, f"DROP SCHEMA {schema} CASCADE", f"DROP SCHEMA IF EXISTS {schema}_backup CASCADE"))


async def _execute(dsn: str, *statements: str) -> None:
    db = await asyncpg.connect(dsn)
    for each in statements:
        await db.execute(each)
    await db.close()


@pytest.fixture
def port(home: Home, tmp_path: Path) -> int:
    """Where the witness will answer; the home names it."""
    made = subprocess.run(
        [*SOAR, "witness", "init", "w.example", "--key", tmp_path / "witness.key"],
        capture_output=True,
        text=True,
        check=True,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    document = yaml.safe_load(home.config.read_text())
    journal: dict[str, Any] = {**document.get("journal", {}), "anchors": ["anchor"]}
    journal["witnesses"] = [{"url": f"http://127.0.0.1:{number}", "key": made.stdout.strip()}]
    home.config.write_text(yaml.safe_dump({**document, "journal": journal}))
    home.logs = [str(home.verifier)]
    return number


def test_a_restored_backup_goes_on_under_a_name_that_tells_of_it(home: Home, port: int, tmp_path: Path) -> None:
    old = home.verifier
    with witnessing(home, tmp_path, port):
        assert home.admit("first") is None
        home.copy("backup")
        earlier = home.soar("audit", "prove", "0").stdout
        kept = home.newest()
        assert home.admit("second") is None
        lost = claimed(home.anchor.read_text())
        home.copy("data")  # the backup, restored
        why = home.admit("third")
        assert why is not None, "a fork must not be signed"
        assert "soar audit continue" in why
        assert claimed(home.newest()).size == claimed(kept).size
        assert home.soar("audit", "verify").returncode == 1, "the anchor tells more than the store"

        refused = home.soar("audit", "continue", *WHY)
        assert "journal.origin is still" in refused.stderr
        home.rename(NEW)
        said = home.soar("audit", "continue", *WHY)
        assert said.returncode == 0, said.stderr
        assert f"entries {claimed(kept).size} to {lost.size - 1} that were published" in said.stderr
    new = Verifier.from_text(said.stdout.strip())
    assert (new.name, new) == (NEW, home.verifier)
    home.logs.append(str(new))
    with witnessing(home, tmp_path, port):
        assert home.admit("fourth") is None
        note = home.newest()
        assert open_note(note, [new]).text.startswith(f"{NEW}\n")
        assert "w.example" in note, "the witness finds nothing wrong with the new name"
        _verifies(home, lost.size, old, new)
        _exported(home, kept, earlier, tmp_path, old, new)
        assert follow(EntryProof.from_text(_certificate(home).read_text()), old) == new

        home.copy("backup")
        assert home.admit("fifth") is None
        home.copy("data")  # once more, silently
        home.anchor.unlink()
        why = home.admit("sixth")
        assert why is not None, "the witness alone tells"
        assert NEW in why


def _certificate(home: Home) -> Path:
    (found,) = home.config.parent.glob("**/*.tlog-proof")
    return found


def _verifies(home: Home, lost: int, old: Verifier, new: Verifier) -> None:
    """By the new key, and by the old one, which leads to it; the continuation is shown."""
    for key in (new, old):
        verified = home.soar("audit", "verify", "--json", "--key", key)
        found = json.loads(verified.stdout)
        assert not found["findings"], verified.stdout
        (told,) = found["continued"]
        assert f"to {lost - 1} that were published" in told


def _exported(home: Home, kept: str, earlier: str, folder: Path, old: Verifier, new: Verifier) -> None:
    """An export verifies with and without our code, also against what was kept under the old name."""
    out, trusted = folder / "out", folder / "trusted"
    exported = home.soar("audit", "export", out)
    assert exported.returncode == 0, exported.stderr
    trusted.write_text(TrustPolicy.of([old, new]).to_text())
    (folder / "kept").write_text(kept)
    (folder / "earlier").write_text(earlier)
    checked = home.soar("audit", "check", out, "--policy", trusted, "--earlier", folder / "kept")
    assert checked.returncode == 0, checked.stdout
    alone = [sys.executable, out / "verify.py", out, "--policy", trusted, "--earlier", folder / "kept"]
    assert "all verified" in subprocess.run(alone, capture_output=True, text=True, check=True).stdout
    proof = home.soar("audit", "check", folder / "earlier", "--policy", trusted)
    assert proof.returncode == 0, proof.stderr


def test_only_what_is_not_what_others_have_seen_is_continued(home: Home, port: int, tmp_path: Path) -> None:
    with witnessing(home, tmp_path, port):
        assert home.admit("first") is None
        home.rename(NEW)
        said = home.soar("audit", "continue", *WHY)
        assert said.returncode == 5
        assert "nothing to give up" in said.stderr
        started = home.soar("audit", "verify")
        assert started.returncode == 0, "nothing was changed"


def test_without_an_anchor_the_witness_s_checkpoint_is_asked_for(home: Home, port: int, tmp_path: Path) -> None:
    """What the witness has in its memory will do."""
    with witnessing(home, tmp_path, port):
        assert home.admit("first") is None
        home.copy("backup")
        assert home.admit("second") is None
        home.copy("data")
        home.anchor.unlink()
        home.rename(NEW)
        said = home.soar("audit", "continue", *WHY)
        assert said.returncode == 1
        assert "a witness saw" in said.stderr
        (memory,) = (tmp_path / "memory").glob("*.checkpoint")
        assert home.soar("audit", "continue", *WHY, "--checkpoint", memory).returncode == 0
    assert home.soar("audit", "verify").returncode == 0


def test_a_continuation_that_was_cut_off_is_finished_by_calling_it_again(home: Home, port: int, tmp_path: Path) -> None:
    with witnessing(home, tmp_path, port):
        assert home.admit("first") is None
        home.copy("backup")
        assert home.admit("second") is None
        home.copy("data")
        home.rename(NEW)
        key, old = _key(home), _key(home).read_text()
        assert home.soar("audit", "continue", *WHY).returncode == 0
        new = home.verifier
        key.rename(key.with_name(f"{key.name}.next"))  # as if it had stopped before its last step
        key.write_text(old)
        key.chmod(0o600)
        assert home.soar("audit", "continue", *WHY).returncode == 0
    assert home.verifier == new
    found = json.loads(home.soar("audit", "verify", "--json").stdout)
    assert (found["findings"], len(found["continued"])) == ([], 1)


def _key(home: Home) -> Path:
    loaded = load_settings(home.config, environ={})
    return loaded.path(loaded.settings.journal.key)
