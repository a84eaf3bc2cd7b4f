"""`soar audit export`, `prove` and `check`, and `soar witness`: from a real journal to somebody who trusts nobody."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import structlog
import typer
from typer.testing import CliRunner

from soar.cli import exports, witness
from soar.cli.base import exit_code
from soar.errors import SoarError
from soar.journal.cosignature import CosignatureVerifier
from soar.journal.trust import TrustPolicy
from soar.model.entry import Entry, EntryType
from soar.service import assemble, read_key
from soar.settings import load_settings
from soar.store.port import Fact

from .study_home import Home, Said, copy_of, first_home


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = first_home(tmp_path_factory.mktemp("exports") / "home")
    asyncio.run(work(home))
    structlog.reset_defaults()
    return home


async def work(home: Home) -> None:
    """One more entry of the first run, with a payload, under a checkpoint of its own."""
    async with assemble(load_settings(home.config, environ={})) as service:
        told = Entry(
            id="entry-told",
            type=EntryType.STEP_FINISHED,
            at=service.clock.now(),
            actor="worker:a",
            run_id=a_run(home),
            subject=a_run(home),
            payload={"host": "pc-7"},
        )
        assert await service.store.commit([Fact(entries=(told,))]) == [None]
        await service.sequencer().sign()


@pytest.fixture
def home(original: Home, tmp_path: Path) -> Home:
    return copy_of(original, tmp_path / "home")


@pytest.fixture
def policy(home: Home, tmp_path: Path) -> Path:
    path = tmp_path / "trusted"
    path.write_text(TrustPolicy.of([read_key(load_settings(home.config, environ={})).verifier]).to_text())
    return path


def soar(*words: object) -> Said:
    app = typer.Typer(pretty_exceptions_enable=False)
    exports.add_to(app)
    witness.add_to(app)
    try:
        ended = CliRunner().invoke(app, [str(word) for word in words])
    finally:
        structlog.reset_defaults()  # a command that sets up logging speaks to a stream that is gone now
    if isinstance(ended.exception, SoarError):
        return Said(exit_code(ended.exception), ended.stdout, str(ended.exception))
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return Said(ended.exit_code, ended.stdout, ended.stderr)


def exported(home: Home, folder: Path, *more: object) -> Path:
    said = soar("export", folder, *more, "--config", home.config)
    assert said.code == 0, said.err
    return folder


def payloads(folder: Path) -> int:
    return sum(1 for _ in folder.glob("payloads/**/*.json"))


def a_run(home: Home) -> str:
    with closing(sqlite3.connect(home.store)) as db:
        (found,) = db.execute("SELECT run_id FROM entries WHERE run_id IS NOT NULL LIMIT 1").fetchone()
        return str(found)


def test_an_export_verifies_here_and_alone(home: Home, policy: Path, tmp_path: Path) -> None:
    folder = exported(home, tmp_path / "out")
    said = soar("check", folder, "--policy", policy)
    assert said.code == 0, said.out
    assert "the export verifies" in said.out
    assert payloads(folder) == 0
    alone = subprocess.run(
        [sys.executable, "-I", folder / "verify.py", "--policy", policy], capture_output=True, text=True, check=False
    )
    assert alone.returncode == 0, alone.stderr


def test_exporting_again_adds_what_is_new_and_continues_what_was_kept(home: Home, policy: Path, tmp_path: Path) -> None:
    folder = exported(home, tmp_path / "out")
    kept = tmp_path / "kept"
    kept.write_text((folder / "checkpoint").read_text())
    home.admit("third")
    exported(home, folder)
    assert (folder / "checkpoint").read_text() != kept.read_text()
    assert soar("check", folder, "--policy", policy, "--earlier", kept).code == 0


def test_payloads_are_exported_where_they_are_asked_for(home: Home, policy: Path, tmp_path: Path) -> None:
    """Also of entries that were exported before."""
    folder = exported(home, tmp_path / "out")
    some = payloads(exported(home, folder, "--payloads-of", a_run(home)))
    assert some == 1
    assert payloads(exported(home, folder, "--payloads")) > some
    assert soar("check", folder, "--policy", policy, "--json").json["ok"]


def test_a_changed_export_does_not_verify(home: Home, policy: Path, tmp_path: Path) -> None:
    folder = exported(home, tmp_path / "out")
    (bundle,) = folder.glob("tile/entries/000*/*")
    bundle.write_bytes(bundle.read_bytes().replace(b"soar", b"sour", 1))
    said = soar("check", folder, "--policy", policy)
    assert said.code == 1
    assert "does not verify" in said.out


def test_a_run_and_an_entry_are_proven_by_one_file_each(home: Home, policy: Path, tmp_path: Path) -> None:
    run_id = a_run(home)
    for name, words, shown in [
        ("run", (run_id,), f"run {run_id}"),
        ("whole", (run_id, "--payloads"), f"run {run_id}"),
        ("entry", ("0",), "entry 0"),
    ]:
        said = soar("prove", *words, "--config", home.config)
        assert said.code == 0, said.err
        (tmp_path / name).write_text(said.out)
        checked = soar("check", tmp_path / name, "--policy", policy)
        assert checked.code == 0, checked.err
        assert checked.out.startswith(shown)
        (tmp_path / name).write_text(said.out.replace("A", "B", 1))
        assert soar("check", tmp_path / name, "--policy", policy).code == 1
    assert '"payload"' in (tmp_path / "whole").read_text()
    assert '"salt"' not in (tmp_path / "run").read_text()


@pytest.mark.parametrize("named", ["run-x", "999999"])
def test_what_is_not_in_the_journal_is_not_proven(home: Home, named: str) -> None:
    said = soar("prove", named, "--config", home.config)
    assert said.code == 2
    assert "have no run and no index" in said.err


def test_a_policy_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("nonsense\n")
    assert "line 1" in soar("check", tmp_path, "--policy", tmp_path / "p").err
    assert "cannot be read" in soar("check", tmp_path, "--policy", tmp_path / "none").err


def test_a_witness_is_made_once_and_its_key_is_its_own(tmp_path: Path) -> None:
    key = tmp_path / "witness.key"
    said = soar("witness", "init", "witness.example", "--key", key)
    assert CosignatureVerifier.from_text(said.out.strip()).name == "witness.example"
    assert key.stat().st_mode & 0o777 == 0o600
    assert "never written over" in soar("witness", "init", "witness.example", "--key", key).err
    key.chmod(0o644)
    assert "can be read by others" in soar("witness", "run", "--log", "x", "--key", key).err
    assert "does not exist" in soar("witness", "run", "--log", "x", "--key", tmp_path / "no").err
    key.chmod(0o600)
    assert "--log:" in soar("witness", "run", "--log", "x", "--key", key).err
