"""What only the owner of the tables may do: the service's own role can add to the journal, and delete none of it."""

from __future__ import annotations

from soar.errors import NotAllowedError
from soar.store.postgres.connect import Db


async def require_owner(db: Db, what: str) -> None:
    """Raise NotAllowedError with the remedy unless this connection's user owns the tables."""
    user, owner, owns = await db.fetchrow(
        "SELECT current_user::text, pg_get_userbyid(relowner)::text, pg_has_role(relowner, 'USAGE')"
        " FROM pg_class WHERE oid = 'payloads'::regclass"
    )
    if not owns:
        raise NotAllowedError(
            f"{what} takes the owner of the tables, {owner}; this is {user}, which may only add to the journal."
            f" Run the same command with SOAR_STORE__URL=secret://... naming the URL of {owner}"
        )
