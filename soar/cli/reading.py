"""The journal, open for commands that only look: whatever could not be read ends them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from soar.errors import StoreUnavailableError
from soar.journal.archive import ArchiveFolder
from soar.service.storage import evidence_of
from soar.settings import Loaded
from soar.store.evidence import Evidence

LONG = 20_000  # entries from which on it takes seconds, and a bar says how many


@contextlib.contextmanager
def reading(loaded: Loaded) -> Iterator[tuple[Evidence, ArchiveFolder]]:
    """The journal and its archive; raises StoreUnavailableError at the end where some of it could not be read."""
    with evidence_of(loaded) as (evidence, archive):
        yield evidence, archive
        if evidence.damage:
            raise StoreUnavailableError(f"store {evidence.where}: {'; '.join(evidence.damage)}; run: soar audit verify")
