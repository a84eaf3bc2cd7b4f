"""The list of planted bugs cannot rot, and whoever tries them out says what became of each."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUGS = tomllib.loads((ROOT / "tests" / "mutants" / "bugs.toml").read_text())["bug"]


@pytest.mark.parametrize("row", [pytest.param(row, id=row["name"].replace(" ", "-")) for row in BUGS])
def test_a_bug_can_still_be_planted_and_its_tests_still_exist(row: dict[str, Any]) -> None:
    assert (ROOT / row["file"]).read_text().count(row["old"]) == 1, f"{row['file']} has changed; write the bug anew"
    assert row["new"] != row["old"]
    assert row["tests"]
    for test in row["tests"]:
        file, _, name = test.partition("::")
        assert re.search(rf"\bdef {name or 'test_'}", (ROOT / file).read_text()), f"there is no {test}"


def test_every_bug_has_a_name_of_its_own() -> None:
    assert len({row["name"] for row in BUGS}) == len(BUGS)


def bug(name: str, old: str, new: str) -> str:
    """A bug in how digests are computed, and one test that could catch it."""
    row = {"name": name, "file": "soar/model/base.py", "old": old, "new": new}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in row.items())
    return f'[[bug]]\n{lines}tests = ["tests/model/test_base.py::test_the_quick_way_agrees"]\n'


@pytest.mark.parametrize(
    ("bugs", "code", "lines"),
    [
        ([bug("caught", "orjson.OPT_SORT_KEYS", "0")], 0, ["caught -> tests/model/test_base.py::", "1 of 1"]),
        (
            [bug("hidden", "hashlib.sha256", "hashlib.sha3_256"), bug("caught", "orjson.OPT_SORT_KEYS", "0")],
            1,
            ["hidden -> SURVIVED", "caught -> tests/model/test_base.py::", "1 of 2 bugs caught", "survived: hidden"],
        ),
        (
            [bug("stale", "md5", "sha256"), bug("broken", "import hashlib", "import")],
            2,
            ["stale -> ERROR: soar/model/base.py has its old text 0 times", "broken -> ERROR: no test failed"],
        ),
    ],
)
def test_each_bug_is_tried_in_a_copy_and_told_of(tmp_path: Path, bugs: list[str], code: int, lines: list[str]) -> None:
    """Caught, survived, or not tried at all: that is three exit codes, and the checkout stays as it is."""
    source = (ROOT / "soar" / "model" / "base.py").read_text()
    (tmp_path / "bugs.toml").write_text("".join(bugs))
    command = [sys.executable, ROOT / "scripts" / "mutants", "--bugs", tmp_path / "bugs.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert [line for line in lines if line not in done.stdout] == []
    assert (ROOT / "soar" / "model" / "base.py").read_text() == source
