"""SIGKILL at every write point of soar, on both stores; the lab's own log is held against the journal.

The points are read from the code, so that a new one without a scenario fails here. `make test` dies at the first and
the last occurrence of each, before and after; with SOAR_CHAOS=1 at every occurrence, one death to a case.
"""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import asyncpg
import pytest

from .points import SOURCE, write_points

ROOT = Path(__file__).resolve().parents[2]
EVERY = os.environ.get("SOAR_CHAOS") == "1"
LANES = max(2, os.cpu_count() or 2)
ALLOWED = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "soar.engine.interpreter:Interpreter._in_time > self._replayed",
                "soar.engine.interpreter:Interpreter._in_time > self._replayed #2",
                "soar.engine.interpreter:Interpreter._replayed > self._do",
                "soar.engine.interpreter:Interpreter._replayed > self._do #2",
            ),
            "replays what has ended: nothing in it is left to write",
        ),
        "soar.engine.act:Actor._to_intent > wait": "twenty overtaken decisions: tests/engine/test_ceilings.py",
        **dict.fromkeys(
            (
                "soar.service.sending:Letters.send > self._store.letters_sent",
                "soar.service.sending:Outbox._hold > self._store.hold_outbox",
                "soar.service.sending:Outbox._send_on > self._hold",
                "soar.service.sending:Outbox._send_on > self._store.advance_outbox",
                "soar.service.sending:Outbox._session > self._hold",
                "soar.service.sending:Outbox._session > self._send_on",
                "soar.service.sending:Outbox.run > self._session",
                "soar.service.sending:Outbox.run > self._store.release_outbox",
            ),
            "writes no entry and needs a broker; tests/service/test_sending.py dies between sending and keeping it",
        ),
        "soar.engine.timekeeper:Sequencer._ask_on > keep_nodes": "kept with the next signature all the same",
        "soar.engine.waits:Waits.wait > end": "lint asks for a timeout, and a timeout ends the wait first",
        "soar.engine.worker:Worker._renew > self._store.renew": "writes no entry; a lease not renewed is one that ends",
    }
)
"""Points that no scenario has to pass, and why that does no harm."""


@pytest.fixture
def schemas(postgres: str) -> Iterator[str]:
    """How schemas begin that are dropped at the end."""
    name = f"crash_{secrets.token_hex(4)}"
    yield name

    async def drop() -> None:
        db = await asyncpg.connect(postgres)
        found = await db.fetch("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, $1)", name)
        for row in found:
            await db.execute(f"DROP SCHEMA {row[0]} CASCADE")
        await db.close()

    asyncio.run(drop())


def run_matrix(folder: Path, **order: Any) -> dict[str, Any]:
    """Let it run in a program of its own: this one has threads, so it must not fork."""
    (folder / "matrix").mkdir()
    words = {"folder": str(folder / "matrix"), "every": EVERY, "lanes": LANES, "deaths_per_case": 1 if EVERY else 3}
    command = [sys.executable, "-m", "tests.crash.matrix", json.dumps({**words, **order})]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def check(result: dict[str, Any]) -> None:
    points = set(write_points().values())
    passed = set(result["passed"])
    assert not result["errors"], "\n\n".join(result["errors"])
    assert not sorted(points - passed - ALLOWED.keys()), "no scenario passes these write points"
    assert points >= ALLOWED.keys(), "these points are no more"
    died = {(point, after) for point, after in result["died"]}
    meant = {(point, after) for point in points - ALLOWED.keys() for after in (False, True)}
    assert not sorted(meant - died), "nobody died there"
    assert (result["lost"], result["duplicates"]) == (0, 0)
    assert {"keyed", "verifiable", "unsafe"} <= result["actions"].keys()
    assert result["ambiguous"]


def tell(result: dict[str, Any], store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures, in one line."""
    figures = {name: value for name, value in result.items() if name not in {"passed", "died", "errors"}}
    with capsys.disabled():
        sys.stdout.write(f"\n{store}: {len(result['passed'])} write points, {json.dumps(figures)}\n")


@pytest.mark.timeout(7200)
def test_killed_at_any_write_point_on_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_matrix(tmp_path, server=None, schemas="sqlite")
    tell(result, "sqlite", capsys)
    check(result)


@pytest.mark.timeout(7200)
def test_killed_at_any_write_point_on_postgres(
    tmp_path: Path, postgres: str, schemas: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_matrix(tmp_path, server=postgres, schemas=schemas)
    tell(result, "postgres", capsys)
    check(result)


def test_a_new_write_point_is_found_and_asks_for_a_scenario(tmp_path: Path) -> None:
    """Whether it writes itself, or calls in a new place what writes."""
    copied = tmp_path / "soar"
    shutil.copytree(SOURCE, copied, ignore=shutil.ignore_patterns("*.pyc"))
    retry = copied / "engine" / "retry.py"
    retry.write_text(
        retry.read_text()
        + "\n\nfrom soar.engine.steps import end\n\n\nasync def sneak(store, fact):\n    await store.commit([fact])\n"
        "\n\nasync def sly(context, record):\n    await end(context, record, None)\n\n\nasync def idle(store):\n"
        "    await store.counts()\n    await asyncio.sleep(0)\n"
    )
    new = set(write_points(copied).values()) - set(write_points().values())
    assert new == {"soar.engine.retry:sneak > store.commit", "soar.engine.retry:sly > end"}
