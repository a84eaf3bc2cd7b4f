"""Entries into tree order, inside the transaction that they belong to."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from soar.errors import JournalError, StoreError
from soar.journal.leaf import seal
from soar.journal.merkle import Frontier
from soar.model.base import to_rfc3339
from soar.model.entry import Entry


def read_tree(db: sqlite3.Connection) -> tuple[int, bytes]:
    """Size and frontier as stored; an empty journal has no row yet."""
    row = db.execute("SELECT size, frontier FROM tree").fetchone()
    return (row[0], row[1]) if row else (0, Frontier().to_bytes())


def append(db: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Seal `entries` in order, extend the tree, and advance each run's chain.

    The frontier is read each time, not remembered: another process may have appended since.
    """
    if not entries:
        return
    size, raw = read_tree(db)
    frontier = Frontier.from_bytes(raw)
    chains = _chains(db, {e.run_id for e in entries if e.run_id is not None})
    rows, payloads, hashes = [], [], []
    for index, entry in enumerate(entries, start=size):
        seq, previous = chains.get(entry.run_id or "", (0, ""))
        try:
            sealed = seal(entry, run_seq=seq, run_prev=previous)
        except JournalError as failure:
            raise StoreError(f"the journal cannot hold this: {failure}") from failure
        if entry.run_id is not None:
            chains[entry.run_id] = (seq + 1, sealed.leaf_hash.hex())
        rows.append((index, entry.id, entry.type, to_rfc3339(entry.at), entry.run_id, sealed.leaf, sealed.leaf_hash))
        if sealed.payload is not None:
            payloads.append((entry.id, sealed.salt, sealed.payload))
        hashes.append(sealed.leaf_hash)
    db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    db.executemany("INSERT INTO payloads VALUES (?, ?, ?)", payloads)
    db.executemany(
        "UPDATE runs SET entry_seq = ?, entry_hash = ? WHERE id = ?", [(*chain, run) for run, chain in chains.items()]
    )
    frontier = frontier.extend(hashes)
    db.execute("INSERT OR REPLACE INTO tree VALUES (1, ?, ?)", (frontier.size, frontier.to_bytes()))


def _chains(db: sqlite3.Connection, run_ids: set[str]) -> dict[str, tuple[int, str]]:
    chains = {}
    for run_id in run_ids:
        row = db.execute("SELECT entry_seq, entry_hash FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise StoreError(f"an entry names run {run_id}, which does not exist")
        chains[run_id] = (row[0], row[1])
    return chains
