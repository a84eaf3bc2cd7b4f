"""Between a store and the verification of its journal; the proof itself is in `soar.journal.verify`."""

from __future__ import annotations

from soar.errors import JournalError
from soar.journal.merkle import Frontier
from soar.journal.note import Verifies
from soar.journal.verify import LogCheck, Report, StoredEntry
from soar.model.base import to_rfc3339
from soar.store.port import Store
from soar.store.seen import EntryRow


async def verify_store(store: Store, *, verifier: Verifies, origin: str) -> Report:
    """Verify the journal of an open store, also while it grows; raises StoreUnavailableError where it cannot be read.

    Checkpoints are read first, the tree next, entries last: whatever is appended meanwhile is beyond what the
    others speak of, and is left for the next time.
    """
    check = LogCheck(await store.checkpoints(), origin=origin, verifiers=[verifier])
    size, raw = await store.tree()
    async for row in store.entries():
        if row.index < size:
            check.take(stored(row))
        else:
            check.take_later(stored(row))  # what is erased while we read is told of there
    try:
        frontier = Frontier.from_bytes(raw)
    except JournalError:
        frontier = Frontier()  # what is no frontier is not the frontier of these entries either
    return check.finish(tree_size=size, frontier=frontier)


def stored(row: EntryRow) -> StoredEntry:
    """An entry as verification takes it: every column that repeats a field of the leaf is checked against it."""
    copies = {"id": row.id, "type": row.type, "at": to_rfc3339(row.at), "run": row.run_id}
    return StoredEntry(
        index=row.index, leaf=row.leaf, leaf_hash=row.leaf_hash, salt=row.salt, payload=row.payload, copies=copies
    )
