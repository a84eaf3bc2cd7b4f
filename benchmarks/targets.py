"""What `throughput.py` found, as one table, and what of it was aimed at."""

import statistics
from dataclasses import dataclass

STORES = ("SQLite", "PostgreSQL")


@dataclass(frozen=True, kw_only=True)
class Row:
    """soar's figures of all rounds, what they are held against, and what is aimed at.

    With others' figures beside them it is the ratio of each round that is aimed at, else the figure itself.
    """

    name: str
    soar: list[float]
    beside: list[float] | None = None
    at_least: float | None = None
    below: float | None = None

    @property
    def values(self):
        """What is judged, of each round."""
        if self.beside is None:
            return self.soar
        return [ours / theirs for ours, theirs in zip(self.soar, self.beside, strict=False)]

    @property
    def verdict(self):
        value = statistics.median(self.values)
        if self.at_least is not None:
            return "met" if value >= self.at_least else "MISSED"
        if self.below is not None:
            return "met" if value < self.below else "MISSED"
        return ""

    @property
    def target(self):
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"< {self.below:g}" if self.below is not None else ""

    def __str__(self):
        ours = f"{statistics.median(self.soar):10,.1f}"
        theirs = f"{statistics.median(self.beside):10,.1f}" if self.beside else f"{'':10}"
        ratio = f"{statistics.median(self.values):8.2f}" if self.beside else f"{'':8}"
        spread = f"{min(self.values):,.2f} .. {max(self.values):,.2f}"
        return f"{self.name:48} {ours} {theirs} {ratio} {spread:>22} {self.target:>8}  {self.verdict}".rstrip()


def ceilings(found):
    """Beside the ceiling: alerts a second, and what processors do for each."""
    for what, share in (("triage", 0.45), ("acted", 0.5)):
        for store in STORES:
            for unit, least in (("alerts/s", share), ("CPU us", None), ("server CPU us", None), ("bytes stored", None)):
                ours, theirs = (found.get(f"{what}, {who}, {store} {unit}") for who in ("soar", "ceiling"))
                if ours and theirs:
                    yield Row(name=f"{what}, {store}, ceiling, {unit}", soar=ours, beside=theirs, at_least=least)


def latencies(found):
    """From Kafka to the action."""
    for store in STORES:
        for part, most in (("p50", None), ("p99", 100)):
            if values := found.get(f"latency, soar, {store} {part} ms"):
                yield Row(name=f"Kafka to action at half load, {store}, {part} ms", soar=values, below=most)


def engines(found):
    """Beside ansible-rulebook, each with soar's slower store."""
    for what, times in (("triage", 5.0), ("acted", 1.5)):
        ours = [
            found[f"{what}, soar, {store} alerts/s"] for store in STORES if f"{what}, soar, {store} alerts/s" in found
        ]
        theirs = found.get(f"{what}, ansible-rulebook alerts/s")
        if ours and theirs:
            slower = min(ours, key=statistics.median)
            yield Row(name=f"{what}, ansible-rulebook, alerts/s", soar=slower, beside=theirs, at_least=times)
    if values := found.get("start-up, ansible-rulebook s"):
        ours = found.get("start-up, soar, 1,000 playbooks s", [0.0])
        yield Row(name="start-up with 1,000, ansible-rulebook, s", soar=ours, beside=values)


def fleets(found):
    """Several workers beside one."""
    for workers in range(2, 10):
        for what in ("triage", "acted"):
            one = found.get(f"{what}, soar, PostgreSQL alerts/s")
            several = found.get(f"{what}, soar x {workers}, PostgreSQL alerts/s")
            if one and several:
                least = 1.7 if workers == 2 else None
                name = f"{what}, {workers} workers beside one, alerts/s"
                yield Row(name=name, soar=several, beside=one, at_least=least)


def others(found):
    if values := found.get("start-up, soar, 10,000 playbooks s"):
        yield Row(name="start-up with 10,000 playbooks, s", soar=values, below=15)
    if values := found.get("matching, 10,000 / 10"):
        yield Row(name="matching against 10,000, in times of 10", soar=values, below=4)


def show(found):
    """Print the table; returns the names of what was missed."""
    title = f"{'':48} {'soar':>10} {'beside':>10} {'ratio':>8} {'of all rounds':>22} {'target':>8}"
    print(title)
    missed = []
    for part in (ceilings, latencies, engines, fleets, others):
        for row in part(found):
            print(row)
            if row.verdict == "MISSED":
                missed.append(row.name)
    return missed
