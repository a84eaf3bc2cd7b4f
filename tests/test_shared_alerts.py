"""`soar ingest` over every real alert: each record is accounted for, and again it is recognised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from soar.demo.home import make_home


def test_ingest_accounts_for_all_real_alerts(tmp_path: Path, shared_data: Path) -> None:
    config = make_home(tmp_path / "home")
    files = sorted(str(file) for file in (shared_data / "alerts").glob("*/*.json"))
    assert len(files) > 50
    command = [sys.executable, "-m", "soar", "ingest", "--json", "-c", str(config), *files]
    first = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert first["records"] == len(files)
    assert sum(first["outcomes"].values()) >= len(files)
    assert "dead_letter" not in first["outcomes"]
    assert first["runs"] > 20
    again = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert again["redelivered"] == len(files)
    assert again["outcomes"] == {}
