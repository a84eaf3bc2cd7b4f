"""A thousand seeds, and that a seed is what it says: the same every time, everywhere, and full of trouble."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from .simulation import Result, simulate

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 1000
AT_ONCE = 25


@cache
def result(seed: int) -> Result:
    return simulate(seed)


@pytest.mark.timeout(600)  # seconds on a quiet machine
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_whatever_goes_wrong_no_promise_is_broken(first: int) -> None:
    """The promises are in `checks.py` and `watch.py`. The message names the command that shows how one was broken."""
    broken = [
        f"seed {seed}: {violation}\n    python -m tests.simulation {seed}"
        for seed in range(first, first + AT_ONCE)
        for violation in result(seed).violations
    ]
    assert not broken, "\n" + "\n".join(broken)


def test_the_same_seed_is_the_same_everywhere() -> None:
    """Also in another process, whose hashes are others."""
    seeds = ["3", "7", "11", "12"]
    printed = [
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", *seeds],
            cwd=ROOT, env={"PYTHONHASHSEED": hashes, "PYTHONPATH": f"{ROOT}:{ROOT / 'connectors'}"},
            capture_output=True, text=True, check=True,
        ).stdout
        for hashes in ("1", "2")
    ]  # fmt: skip
    assert printed[0] == printed[1]
    for seed in seeds:
        assert simulate(int(seed)).digest == result(int(seed)).digest
        assert result(int(seed)).digest in printed[0]


WORDS = {
    "CRASH", "STOPPED", "goes on", "CLOCK", "DISK FULL", "cannot start", "source delivers", "call refused", "EFFECT",
    "person halts", "person resolves", "person refused", "leap", "warning run.recovered", "warning run.lease_lost",
    "warning run.store_unavailable", "warning worker.lease_lost", "info timekeeper.too_late",
    "fate=lost", "fate=slow", "fate=limited", "fate=failed", "fate=rejected", "what=cancel", "what=pause", "what=skip",
    "what=undo", "what=retry", "decision=deny", "happened=True", "happened=False", "readback[3]", "verify[1]",
    "state=succeeded", "state=failed", "state=cancelled", "state=needs_review", "path=undo", "sweep", "on_error",
}  # fmt: skip


def test_every_kind_of_trouble_comes_up() -> None:
    """Else nothing would be shown by a thousand seeds in which nothing happens."""
    told = "\n".join(line for seed in range(400) for line in result(seed).trace)
    assert {word for word in WORDS if word not in told} == set()


def test_seeds_differ() -> None:
    assert len({result(seed).digest for seed in range(200)}) == 200
