"""What this process takes the journal to be: the tree's size and frontier, and the ends of runs' chains.

All of it is guesses, from what the process itself has written. Whatever is written on the strength of one checks it in
the same statement, so a wrong guess costs time and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from soar.store.postgres.connect import Db
from soar.store.postgres.sheet import Chain

_CHAINS_MAX = 10_000


@dataclass(slots=True)
class Tip:
    """The journal as this process has left it.

    `seen` is the tree that was found last, and `known` the same as long as nobody else seems to append.
    """

    seen: tuple[int, bytes] | None = None
    known: tuple[int, bytes] | None = None
    chains: dict[str, Chain] = field(default_factory=dict)
    _pen: asyncio.Lock = field(default_factory=asyncio.Lock)
    _writer: Db | None = None

    def found(self, size: int, frontier: bytes, *, alone: bool = True) -> None:
        """Note the tree as it will be when the transaction commits."""
        self.seen = (size, frontier)
        self.known = self.seen if alone else None

    def remember(self, chains: Mapping[str, Chain]) -> None:
        """Note the ends of chains."""
        if len(self.chains) + len(chains) > _CHAINS_MAX:
            self.chains.clear()  # they are read again where they are needed
        self.chains.update(chains)

    async def take(self, db: Db) -> None:
        """Append alone in this process, from now until the transaction on this connection ends.

        The server would make our own transactions wait for each other at the tree, and the later one's guess wrong.
        Whoever waits here may hold locks of runs, so whoever holds this must not wait for any.
        """
        if self._writer is not db:
            await self._pen.acquire()
            self._writer = db

    def release(self, db: Db) -> None:
        """The transaction on this connection has ended."""
        if self._writer is db:
            self._writer = None
            self._pen.release()
