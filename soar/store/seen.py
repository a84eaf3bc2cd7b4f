"""What a store shows of itself and of its journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRow:
    """An entry as the journal holds it. `payload` is None where there never was one or it was erased."""

    index: int
    id: str
    type: str
    at: datetime
    run_id: str | None
    leaf: bytes
    leaf_hash: bytes
    salt: bytes | None
    payload: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much of everything there is."""

    alerts: Mapping[str, int]  # by outcome, dead letters included
    runs: Mapping[str, int]  # by state
    actions: Mapping[str, int]  # `<effect>/<attempt state>`
    approvals: Mapping[str, int]  # by state
    entries: int
