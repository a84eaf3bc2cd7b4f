"""What others keep of our checkpoints, as commands ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from soar.errors import ConnectorError, JournalError
from soar.journal.note import Verifier
from soar.journal.trust import TrustPolicy, claimed
from soar.service.assembly import anchors_of
from soar.settings import Loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What one anchor holds: a checkpoint over `size` entries, none yet, or why nobody could tell (`problem`)."""

    place: str
    note: str | None = None
    size: int | None = None
    problem: str | None = None
    damaged: bool = False  # it was asked, and holds what is no checkpoint of ours

    def __str__(self) -> str:
        held = "none yet" if self.size is None else f"one over {self.size} entries"
        return f"{self.place}: {self.problem or held}"


async def kept_elsewhere(loaded: Loaded, key: Verifier, *, whole: bool = False) -> Sequence[Kept]:
    """Ask every configured anchor for the newest checkpoint by `key`; `whole`: of all that it was ever given."""
    policy, found = TrustPolicy.of([key]), []
    for anchor in anchors_of(loaded, origin=key.name, whole=whole):
        try:
            note = await anchor.newest(policy)
        except (OSError, ConnectorError) as failure:
            found.append(Kept(place=anchor.place, problem=str(failure)))
        except JournalError as failure:
            found.append(Kept(place=anchor.place, problem=str(failure), damaged=True))
        else:
            found.append(Kept(place=anchor.place, note=note, size=claimed(note).size if note else None))
    return found
