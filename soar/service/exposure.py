"""What of the journal is vouched for, and by whom: only our own key, witnesses, or places that we do not rule."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from soar.errors import JournalError
from soar.journal.trust import claimed
from soar.settings import Loaded
from soar.store.port import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """How far the journal is signed. `age_seconds` is the age of the newest signed entry, None before there is one."""

    exposed: int
    exposed_seconds: float  # the age of the oldest entry under no checkpoint
    age_seconds: float | None
    disowned: bool
    not_cosigned: int | None = None  # entries beyond the newest cosigned checkpoint, None where nobody cosigns
    not_anchored: int | None = None  # entries beyond the newest anchored checkpoint, None where nothing is anchored


async def signing(
    store: Store, *, now: datetime, disowned: bool, loaded: Loaded | None = None, anchored: Sequence[int] = ()
) -> Signing:
    """What of the journal is signed now; raises StoreUnavailableError. `anchored` are the sizes that anchors hold."""
    covered = max([claimed(note).size for note in await store.checkpoints(newest=1)], default=0)
    size, _ = await store.tree()
    ages: dict[int, float] = {}
    async for entry in store.entries(start=max(covered - 1, 0)):
        ages[entry.index] = (now - entry.at).total_seconds()
        if entry.index >= covered:
            break
    return Signing(
        exposed=max(size - covered, 0),
        exposed_seconds=ages.get(covered, 0.0),
        age_seconds=ages.get(covered - 1),
        disowned=disowned,
        not_cosigned=not_cosigned(loaded, size, await store.cosigned()) if loaded else None,
        not_anchored=not_anchored(anchored, size),
    )


def not_cosigned(loaded: Loaded, size: int, note: str | None) -> int | None:
    """Of `size` entries, how many lie beyond this cosigned checkpoint; None where no witness is configured."""
    return max(size - _size(note), 0) if loaded.settings.journal.witnesses else None


def not_anchored(anchored: Sequence[int], size: int) -> int | None:
    """Of `size` entries, how many lie beyond what the anchors hold; None where there are none."""
    return max(size - max(anchored), 0) if anchored else None


def _size(note: str | None) -> int:
    """The size that a checkpoint claims; 0 for none, and for what is none."""
    with contextlib.suppress(JournalError):
        return 0 if note is None else claimed(note).size
    return 0
