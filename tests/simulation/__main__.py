"""Runs seeds: `python -m tests.simulation 42` prints what happens in seed 42, `--seeds 1000-20000` tries a range."""

# ruff: noqa: T201 - a command prints

import argparse
import sys
import time
from collections.abc import Iterable

from .simulation import simulate


def main() -> int:
    """Exit code 1 where a seed breaks a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", nargs="*", type=int, help="seeds whose trace is printed")
    parser.add_argument("-v", dest="journal", action="store_true", help="print the journal of each, too")
    parser.add_argument("--seeds", metavar="FIRST-LAST", help="seeds of which only broken ones are told")
    asked = parser.parse_args()
    broken = 0
    for seed in asked.seed:
        result = simulate(seed)
        print("\n".join(result.trace))
        if asked.journal:
            print(
                "\n".join(f"{e.index:5} {e.at:%H:%M:%S} {e.type:20} {e.run or '-'} {e.subject}" for e in result.journal)
            )
        print(f"seed {seed}: {len(result.trace)} lines, digest {result.digest}")
        broken += _tell(seed, result.violations)
    if asked.seeds:
        first, _, last = asked.seeds.partition("-")
        broken += _many(range(int(first), int(last or first) + 1))
    return 1 if broken else 0


def _many(seeds: Iterable[int]) -> int:
    began, broken, count = time.monotonic(), 0, 0
    for seed in seeds:
        broken += _tell(seed, simulate(seed).violations)
        count += 1
    print(f"{count} seeds in {time.monotonic() - began:.0f} s, {broken} broken")
    return broken


def _tell(seed: int, violations: tuple[str, ...]) -> int:
    for violation in violations:
        print(f"seed {seed}: {violation}", flush=True)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
