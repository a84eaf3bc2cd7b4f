"""How far behind a consumer is, and whether it still gets anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import TopicPartition

Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class _Stand:
    """Where a partition is read next, and since when (seconds of a clock that never goes back)."""

    position: int
    since: float


class Watch:
    """Looks at positions and ends from time to time, and tells what stands still from what has nothing to read."""

    def __init__(self) -> None:
        self.lag: dict[TopicPartition, int] = {}  # records that wait, by partition that is ours
        self._stands: dict[TopicPartition, _Stand] = {}

    def look(self, positions: Offsets, ends: Offsets, *, now: float) -> None:
        """Take note of the partitions that are ours; others are forgotten."""
        self.lag = {each: max(0, ends[each] - position) for each, position in positions.items() if each in ends}
        stands = {}
        for each, position in positions.items():
            known = self._stands.get(each)
            goes_on = known is None or known.position != position or not self.lag.get(each)
            stands[each] = _Stand(position, now) if known is None or goes_on else known
        self._stands = stands

    def excuse(self, *, now: float) -> None:
        """We ourselves did not read: nobody stands still because of that."""
        self._stands = {each: _Stand(stand.position, now) for each, stand in self._stands.items()}

    def stuck(self, seconds: float, *, now: float) -> list[TopicPartition]:
        """Where records wait and none has come for so long."""
        still = (each for each, stand in self._stands.items() if now - stand.since >= seconds)
        return sorted(each for each in still if self.lag.get(each))
