"""What `throughput.py` found, as a table, and what of it was aimed at."""

import statistics
from dataclasses import dataclass

STORES = ("SQLite", "PostgreSQL")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a figure is held against."""

    at_least: float | None = None
    below: float | None = None

    def met(self, value):
        return value >= self.at_least if self.at_least is not None else value < self.below

    def __str__(self):
        return f">= {self.at_least:g}" if self.at_least is not None else f"< {self.below:g}"


class Verdicts:
    """Each target with the values of all rounds that are held against it."""

    def __init__(self, found):
        self.found = found

    def ratio(self, one, two):
        """Each round's ratio of two figures; empty where one of them was not measured."""
        return [mine / other for mine, other in zip(self.found.get(one, ()), self.found.get(two, ()), strict=False)]

    def all(self):
        """Name, values and target."""
        lines = [*self.ceilings(), *self.latencies(), *self.others()]
        return [(name, values, target) for name, values, target in lines if values]

    def ceilings(self):
        for what, share in (("triage", 0.45), ("acted", 0.5)):
            for store in STORES:
                values = self.ratio(f"{what}, soar, {store} alerts/s", f"{what}, ceiling, {store} alerts/s")
                yield f"{what}, soar / ceiling, {store}", values, Target(at_least=share)

    def latencies(self):
        for store in STORES:
            values = self.found.get(f"latency, soar, {store} p99 ms", [])
            yield f"Kafka to action at half load, p99 ms, {store}", values, Target(below=100)

    def others(self):
        for what, times in (("triage", 5.0), ("acted", 1.5)):
            ratios = [
                self.ratio(f"{what}, soar, {store} alerts/s", f"{what}, ansible-rulebook alerts/s") for store in STORES
            ]
            slower = min(ratios, key=lambda values: statistics.median(values or [0]))
            yield f"{what}, soar's slower store / ansible-rulebook", slower, Target(at_least=times)
        for what in ("triage", "acted"):
            values = self.ratio(f"{what}, soar x 2 alerts/s", f"{what}, soar x 1 alerts/s")
            yield f"{what}, two workers / one, PostgreSQL", values, Target(at_least=1.7)
        yield "start-up with 10,000 playbooks, s", self.found.get("start-up, soar s", []), Target(below=15)
        yield "matching, 10,000 playbooks / 10", self.found.get("matching, 10,000 / 10", []), Target(below=4)


def show(found):
    """Print what was found and what of it is as it should be; returns the names of what is not."""
    print(f"{'':50} {'median':>10}   {'of all rounds':>23}")
    for name, values in found.items():
        print(f"{name:50} {statistics.median(values):10,.1f}   {min(values):10,.1f} .. {max(values):,.1f}")
    print(f"\n{'':50} {'median':>10}   {'of all rounds':>23}   {'target':>8}")
    missed = []
    for name, values, target in Verdicts(found).all():
        value = statistics.median(values)
        met = target.met(value)
        spread = f"{min(values):.2f} .. {max(values):.2f}"
        print(f"{name:50} {value:10.2f}   {spread:>23}   {target!s:>8}   {'met' if met else 'MISSED'}")
        if not met:
            missed.append(name)
    return missed
