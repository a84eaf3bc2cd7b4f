"""Entries into tree order, inside the transaction that they belong to."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from soar.errors import JournalError, StoreError
from soar.journal.leaf import seal
from soar.journal.merkle import Frontier
from soar.journal.salts import Randomness
from soar.model.base import to_rfc3339
from soar.model.entry import Entry


def read_tree(db: sqlite3.Connection) -> tuple[int, bytes]:
    """Size and frontier as stored; an empty journal has no row yet."""
    row = db.execute("SELECT size, frontier FROM tree").fetchone()
    return (row[0], row[1]) if row else (0, Frontier().to_bytes())


class Appender:
    """Appends entries within one transaction: tree and chains are read at its begin and written back at its end.

    Nothing is remembered from one transaction to the next: another process may have appended since. `at_once` inserts
    each fact's entries with the fact; else all are inserted at the end, which is cheaper, and fails there.
    """

    def __init__(self, db: sqlite3.Connection, *, at_once: bool = True) -> None:
        self._db = db
        self._at_once = at_once
        self._rows: list[tuple[Any, ...]] = []
        self._payloads: list[tuple[Any, ...]] = []
        self._frontier = Frontier.from_bytes(read_tree(db)[1])
        self._chains: dict[str, tuple[int, str]] = {}
        self._found: dict[str, tuple[int, str]] = {}
        self._hashes: list[bytes] = []
        self._salts = Randomness()

    def expect(self, run_id: str, chain: tuple[int, str]) -> None:
        """A run that entries will be about, with the end of its chain as its row has it."""
        self._found[run_id] = chain

    def append(self, entries: Sequence[Entry]) -> None:
        """Seal one fact's entries, in order; raises StoreError where the journal cannot hold one, and takes none."""
        chains: dict[str, tuple[int, str]] = {}
        rows, payloads, hashes = [], [], []
        for index, entry in enumerate(entries, start=self._frontier.size + len(self._hashes)):
            seq, previous = chains.get(entry.run_id or "") or self._chain(entry.run_id)
            try:
                sealed = seal(entry, run_seq=seq, run_prev=previous, salt_source=self._salts)
            except JournalError as failure:
                raise StoreError(f"the journal cannot hold this: {failure}") from failure
            if entry.run_id is not None:
                chains[entry.run_id] = (seq + 1, sealed.leaf_hash.hex())
            at = to_rfc3339(entry.at)
            rows.append((index, entry.id, entry.type, at, entry.run_id, sealed.leaf, sealed.leaf_hash))
            if sealed.payload is not None:
                payloads.append((entry.id, sealed.salt, sealed.payload))
            hashes.append(sealed.leaf_hash)
        self._rows += rows
        self._payloads += payloads
        if self._at_once:
            self._insert()
        self._chains |= chains
        self._hashes += hashes

    def _insert(self) -> None:
        rows, payloads, self._rows, self._payloads = self._rows, self._payloads, [], []
        self._db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        self._db.executemany("INSERT INTO payloads VALUES (?, ?, ?)", payloads)

    def finish(self) -> None:
        """Write what is left, the tree and the chains."""
        if not self._hashes:
            return
        self._insert()
        chains = [(*chain, run_id) for run_id, chain in self._chains.items()]
        self._db.executemany("UPDATE runs SET entry_seq = ?, entry_hash = ? WHERE id = ?", chains)
        frontier = self._frontier.extend(self._hashes)
        self._db.execute("INSERT OR REPLACE INTO tree VALUES (1, ?, ?)", (frontier.size, frontier.to_bytes()))

    def _chain(self, run_id: str | None) -> tuple[int, str]:
        if run_id is None:
            return 0, ""
        known = self._chains.get(run_id) or self._found.get(run_id)
        if known is not None:
            return known
        row = self._db.execute("SELECT entry_seq, entry_hash FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise StoreError(f"an entry names run {run_id}, which does not exist")
        return row[0], row[1]
