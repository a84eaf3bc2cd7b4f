"""What is still to be sent; see `soar.store.outbox`. Each is one statement that may be done twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from soar.model.alert import DeadLetter
from soar.store.outbox import Unsent
from soar.store.postgres.connect import Db
from soar.store.postgres.rows import array, digest_of, letter_of
from soar.store.postgres.sql import statements

_FILE = "outbox.sql"


async def hold(db: Db, name: str, owner: str, now: datetime, until: datetime) -> int | None:
    """Take it, or keep it."""
    position: int | None = await db.fetchval(statements(_FILE)["hold"], name, owner, now, until)
    return position


async def advance(db: Db, name: str, owner: str, position: int) -> bool:
    """Remember what was sent."""
    return bool(await db.fetch(statements(_FILE)["advance"], name, owner, position))


async def release(db: Db, name: str, owner: str) -> None:
    """Let others take it."""
    await db.execute(statements(_FILE)["release"], name, owner)


async def unsent_letters(db: Db, limit: int) -> list[DeadLetter]:
    """Oldest first."""
    return [letter_of(row) for row in await db.fetch(statements(_FILE)["unsent_letters"], limit)]


async def letters_sent(db: Db, ids: Sequence[str]) -> None:
    """Remember that these were sent."""
    await db.execute(statements(_FILE)["letters_sent"], array(ids))


async def unsent(db: Db, name: str) -> Unsent:
    """How much waits."""
    (row,) = await db.fetch(statements(_FILE)["unsent"], name)
    return Unsent(letters=row["letters"], entries=row["entries"])


async def consumed(db: Db, coordinates: Collection[str]) -> set[str]:
    """Of these, those that were consumed."""
    rows = await db.fetch(statements(_FILE)["consumed"], [digest_of(each) for each in coordinates])
    return {row["coordinates"] for row in rows} & set(coordinates)
