"""The demonstration shows what it claims, counted in the store and the lab."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from soar.demo.home import make_home
from soar.demo.samples import samples
from soar.errors import ConfigError
from soar.settings import load_settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def soar(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "soar", *words], cwd=cwd, capture_output=True, text=True, check=False)


def test_demo_shows_every_promise_and_exits_0(tmp_path: Path) -> None:
    done = soar("demo", "--json", "--keep", "home", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["ok"]
    assert sum(summary["alerts"].values()) == summary["records"] == 12
    assert set(summary["alerts"]) == {"matched", "no_match", "duplicate", "correlated", "expired", "dead_letter"}
    assert summary["tickets"] >= 1
    assert summary["denied_by_policy"] == summary["approved"] == summary["undone"] == 1
    assert summary["verified"]
    verified = soar("audit", "verify", "-c", "home/soar.yaml", cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_the_home_of_a_demo_can_be_looked_at_afterwards(tmp_path: Path) -> None:
    soar("demo", "--keep", "home", cwd=tmp_path)
    runs = json.loads(soar("runs", "list", "--json", "-c", "home/soar.yaml", cwd=tmp_path).stdout)
    assert {"ransomware-host", "brute-force"} <= {run["playbook_id"] for run in runs}


def test_a_home_is_never_overwritten(tmp_path: Path) -> None:
    make_home(tmp_path)
    with pytest.raises(ConfigError, match="already exists"):
        make_home(tmp_path)


def test_a_home_loads_and_its_keys_are_private(tmp_path: Path) -> None:
    loaded = load_settings(make_home(tmp_path / "new"), {})
    assert loaded.settings.people[0].name == "alice"
    for key in (tmp_path / "new" / "keys").iterdir():
        assert key.stat().st_mode & 0o077 == 0


def test_two_homes_never_share_a_key(tmp_path: Path) -> None:
    make_home(tmp_path / "a")
    make_home(tmp_path / "b")
    for name in ("journal.key", "lab-token", "ingest-token"):
        assert (tmp_path / "a/keys" / name).read_text() != (tmp_path / "b/keys" / name).read_text()


def test_samples_of_two_rounds_differ_and_those_of_one_do_not() -> None:
    first, again, other = samples(NOW, topic="a"), samples(NOW, topic="a"), samples(NOW, topic="b")
    assert first == again
    assert first[0].value != other[0].value
    assert first[0].value == first[3].value, "the fourth sample repeats the first"
