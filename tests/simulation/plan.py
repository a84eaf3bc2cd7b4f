"""What a seed has in store: who works, what comes in, and what goes wrong. Each seed draws its own kinds of trouble."""

import json
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

from soar.model.alert import Record

from .world import BEGIN, Weather


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A batch of records that a source hands over from some moment on, perhaps more than once."""

    at: float
    records: tuple[Record, ...]
    times: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One seed's circumstances."""

    seconds: float  # so long things go wrong, by the loop's time; then all comes to rest
    engines: int
    crowds: int
    deliveries: tuple[Delivery, ...]
    weather: Weather
    store_away: float
    policy_away: float
    disk_seconds: float
    slow_disk: float
    crash: float  # chance that a process that begins will be killed
    freeze: float  # chance that it will be stopped for a while
    disk_full: tuple[float, float] | None  # from, for so long
    jumps: tuple[tuple[float, float], ...]  # at, by so many seconds
    meddling: float  # how often people do more than decide

    @property
    def turned_back(self) -> bool:
        """Whether the clock ever goes back."""
        return any(by < 0 for _, by in self.jumps)


def draw(seed: int) -> Plan:
    """The plan of a seed. A kind of trouble is there in about every second or third seed, so that they meet."""
    random = Random(f"{seed}/plan")

    def sometimes(share: float, most: float) -> float:
        return random.random() * most if random.random() < share else 0.0

    seconds = random.choice([3.0, 3.0, 3.0, 3.0, 3.0, 14.0])  # leases are renewed every ten
    freeze = sometimes(0.35, 0.8)
    jumps = [(random.random() * seconds, random.choice([2, 12, 33, 90])) for _ in range(random.choice([0, 0, 1, 3]))]
    if not freeze and random.random() < 0.1:
        jumps.append((random.random() * seconds, -random.choice([5, 3600])))
    weather = Weather(
        refused=sometimes(0.4, 0.2), limited=sometimes(0.4, 0.3), failed=sometimes(0.4, 0.3),
        rejected=sometimes(0.2, 0.1), lost=sometimes(0.6, 0.4), slow=sometimes(0.3, 0.2),
    )  # fmt: skip
    return Plan(
        seconds=seconds,
        engines=random.choice([1, 1, 2, 2, 3]),
        crowds=random.choice([1, 1, 2]),
        deliveries=tuple(_deliveries(random, seconds / 2)),
        weather=weather,
        store_away=sometimes(0.3, 0.1),
        policy_away=sometimes(0.3, 0.5),
        disk_seconds=random.choice([0.003, 0.003, 0.03, 0.2]),  # slow enough for others to come between any two steps
        slow_disk=sometimes(0.2, 0.02),
        crash=sometimes(0.6, 1.0),
        freeze=freeze,
        disk_full=(random.random() * seconds, random.random() * 2) if random.random() < 0.2 else None,
        jumps=tuple(sorted(jumps)),
        meddling=sometimes(0.5, 1.0),
    )


def _deliveries(random: Random, within: float) -> list[Delivery]:
    bodies = _bodies(random)
    found, offset = [], 0
    while bodies:
        size = random.randint(1, 3)
        batch, bodies = bodies[:size], bodies[size:]
        records = tuple(
            Record(
                source="sim", topic="alerts", offset=offset + number, value=body, mapping="generic",
                received_at=BEGIN + timedelta(seconds=offset),
            )
            for number, body in enumerate(batch)
        )  # fmt: skip
        found.append(Delivery(at=random.random() * within, records=records, times=random.choice([1, 1, 1, 2])))
        offset += len(batch)
    return found


def _bodies(random: Random) -> list[bytes]:
    """One to three alerts, some of them with another like them; and what is none."""
    found: list[bytes] = []
    bodies: list[dict[str, Any]] = []
    for number in range(random.choice([1, 1, 2, 2, 3])):
        rule = random.choice(["contain", "contain", "wipe", "wipe", "watch", "queue", "queue", "quiet", "nothing"])
        body = {
            "id": f"alert-{number}", "rule": rule, "title": f"Alert {number}", "host": f"host-{number}",
            "shared": random.choice(["left", "right"]), "severity": random.choice(["low", "high", "critical"]),
        }  # fmt: skip
        bodies.append(body)
        if random.random() < 0.2:
            bodies.append(dict(body))
        if random.random() < 0.2:
            bodies.append({**body, "host": f"host-{number}x"})
    found = [json.dumps(body).encode() for body in bodies]
    if any(body["rule"] == "watch" for body in bodies):
        found.append(json.dumps({"id": "q", "rule": "quiet", "title": "Quiet", "severity": "low"}).encode())
    if random.random() < 0.1:
        found.append(b"{broken")
    return found
