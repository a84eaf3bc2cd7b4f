"""Ceilings in a batch: what was counted is locked, counted anew, and counted on as the facts are accepted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from soar.errors import RecountError
from soar.store import port
from soar.store.postgres.connect import Db
from soar.store.postgres.rows import array, columns, digest_of
from soar.store.postgres.sheet import Sheet
from soar.store.postgres.sql import statements

_LOCKS = 256
"""So many locks all keys share: a batch of thousands of keys must not fill the server's table of locks."""

Asked = tuple[str, datetime, str, str]  # key, since, run and path of the action that asks


@dataclass(slots=True)
class CountNames:
    """What a batch's intents count under, and up to what; empty where none has a ceiling."""

    keys: set[str] = field(default_factory=set)
    asked: set[Asked] = field(default_factory=set)

    def add(self, write: port.InsertAttempt) -> None:
        """What one intent asks for."""
        self.keys.update(write.counted)
        self.asked.update(_asked(write))

    async def lock(self, db: Db) -> None:
        """Lock the keys, always in one order. Whoever holds one sees all that was counted under it before."""
        if self.keys:
            locks = sorted({int.from_bytes(digest_of(key)[:2]) % _LOCKS for key in self.keys})
            await db.execute(statements("writes.sql")["lock_counts"], locks)

    async def load(self, db: Db, sheet: Sheet) -> None:
        """Count; a statement of its own after the lock, which sees what others have committed until then."""
        if self.asked:
            asked = sorted(self.asked)
            for place, actions in await db.fetch(statements("writes.sql")["recount"], *columns(asked)):
                sheet.hold("ceilings", *asked[place - 1], row=actions)


def check(sheet: Sheet, write: port.InsertAttempt) -> None:
    """Raise RecountError where others did more than a ceiling allows, and count this intent."""
    attempt = write.attempt
    itself = (attempt.run_id, attempt.path)
    for ceiling, asked in zip(write.ceilings, _asked(write), strict=True):
        here = sheet.get("counted", ceiling.key) or ()
        others = {(run, path) for run, path, at in here if at >= ceiling.since} - {itself}
        if sheet.get("ceilings", *asked) + len(others) > ceiling.most:
            raise RecountError(f"more was done under {ceiling.key} than the {ceiling.most} that the decision knew of")
    for key in write.counted:
        here = sheet.get("counted", key) or ()
        sheet.put("counted", key, row=(*here, (*itself, attempt.intended_at)))


def _asked(write: port.InsertAttempt) -> list[Asked]:
    attempt = write.attempt
    return [(each.key, each.since, attempt.run_id, attempt.path) for each in write.ceilings]


async def action_counts(
    db: Db, keys: Sequence[str], since: datetime, besides: tuple[str, str] | None
) -> dict[str, int]:
    """How many actions each key saw since."""
    run_id, path = besides or ("", "")
    rows = await db.fetch(statements("reads.sql")["action_counts"], array(keys), since, run_id, path)
    return {row["key"]: row["actions"] for row in rows}


async def targets_acted_on(db: Db, kind: str, since: datetime, besides: Collection[str]) -> int:
    """How many targets of a type actions had since."""
    begin = f"target:{kind}:"
    keys = array(f"{begin}{each}" for each in besides)
    found: int = await db.fetchval(statements("reads.sql")["targets_acted_on"], begin, since, keys)
    return found
