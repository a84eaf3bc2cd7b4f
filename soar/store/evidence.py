"""The journal as an auditor reads it: without changing the store, and without believing any of it.

Everything is read from one moment of the store, which may be at work meanwhile. Whoever reads is a program of its own
that does nothing else, so this part of the port does not wait as the others do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from soar.errors import JournalError
from soar.journal.archive import ArchiveFolder
from soar.journal.leaf import parse_leaf
from soar.journal.merkle import Frontier
from soar.journal.note import Verifier
from soar.journal.rotation import HANDOVERS, first_key
from soar.journal.verify import Report, StoredEntry, verify_log, with_kept

FINDINGS_MAX = 20  # of one kind; the first says it, the rest would scroll it away
STATE_FORGOTTEN = "state.forgotten"
"""The type of the entry that says that state which ended before its `before` has left the store."""

Watch = Callable[[Iterable[StoredEntry], int], Iterable[StoredEntry]]


class Evidence(Protocol):
    """What a store says at one moment. `damage` collects what could not be read: that is a finding too."""

    where: str
    damage: list[str]

    def entries(
        self,
        *,
        start: int = 0,
        end: int | None = None,
        run_id: str | None = None,
        kind: str | None = None,
        mentions: str | None = None,
        newest_first: bool = False,
    ) -> Iterator[StoredEntry]:
        """Entries from `start` to before `end`, of one run or type, whose leaf holds a text; a page at a time."""
        ...

    def of_runs(self, run_ids: Collection[str], kinds: Collection[str]) -> Iterator[StoredEntry]:
        """Entries of these types of these runs, in tree order."""
        ...

    def leaves(self, kind: str) -> list[bytes]:
        """The leaves of this type, oldest first."""
        ...

    def checkpoints(self, newest: int | None = None) -> list[str]:
        """Signed checkpoints as the log made them, oldest first; or the `newest` so many."""
        ...

    def cosigned(self) -> str | None:
        """The newest checkpoint that carries the lines of witnesses."""
        ...

    def tree(self) -> tuple[int, bytes]:
        """Size and frontier as stored."""
        ...

    def divergence(self) -> Iterator[str]:
        """Where state and journal tell different stories, which one transaction never writes."""
        ...

    def structure(self) -> Iterator[str]:
        """What the database itself finds wrong with what holds the journal."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong; `index`, `id` and `type` name the first entry it concerns, as far as it concerns one."""

    message: str
    index: int | None = None
    id: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Examination:
    """What the journal proves, and everything wrong with the store that holds it; the lowest entry first.

    `archived` payloads were read from the archive, `away` ones stand in archive files that are not here.
    """

    report: Report
    findings: tuple[Finding, ...]
    archived: int = 0
    away: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing at all is wrong."""
        return not self.findings

    @property
    def first_bad(self) -> Finding | None:
        """The finding about the lowest entry, None where no entry is known to be bad."""
        return next((each for each in self.findings if each.index is not None), None)


def examine(
    evidence: Evidence,
    *,
    key: Verifier,
    archive: ArchiveFolder,
    kept: Sequence[str] = (),
    watch: Watch = lambda entries, _: entries,
) -> Examination:
    """Verify the journal; raises only where nobody can look into the store now.

    `key` is one that signed it: the first, the last, or one between; handovers lead from one to the next. `kept` are
    checkpoints from elsewhere, which the journal must continue.
    `watch` is given the entries and how many are expected, and passes them on: for a progress bar.
    """
    size, raw = evidence.tree()
    claimed = size if isinstance(size, int) else 0
    archived = archive.reading()
    first = first_key((leaf for kind in HANDOVERS for leaf in evidence.leaves(kind)), key)
    report = verify_log(
        watch((archived.fill(entry) for entry in evidence.entries()), claimed),
        with_kept(evidence.checkpoints(), kept),
        origin=first.name,
        verifiers=[first],
        key=key,
        tree_size=claimed,
    )
    beside = [*_frontier(raw, report), *evidence.divergence(), *evidence.structure(), *archived.problems]
    named = [_named(evidence, problem.index, problem.message) for problem in report.problems]
    damage = [_damaged(report.size, message) for message in evidence.damage]
    findings = sorted((*damage, *named, *map(Finding, beside)), key=_position)
    return Examination(report, tuple(findings), archived.filled, archived.away)


def first_from(evidence: Evidence, at: str, size: int) -> int:
    """An index before which no entry is as young as `at`, as far as the entries' times never fall back.

    Several machines write them, so whoever asks leaves their clocks some room.
    """
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        entry = next(iter(evidence.entries(start=middle, end=middle + 1)), None)
        if entry is not None and str(entry.copies["at"]) < at:
            low = middle + 1
        else:
            high = middle
    return low


def forgotten_before(leaves: Iterable[bytes]) -> str:
    """Up to when runs may have left the store, "" for never: what the entries that tell of it say."""
    times = [""]
    for leaf in leaves:
        with contextlib.suppress(JournalError, KeyError, TypeError):
            times.append(str(parse_leaf(leaf)["data"]["before"]))
    return max(times)


def _frontier(raw: Any, report: Report) -> Iterator[str]:
    try:
        frontier = Frontier.from_bytes(raw)
    except (JournalError, TypeError) as failure:
        yield f"the stored frontier cannot be read: {failure}"
        return
    if (frontier.size, frontier.root()) != (report.size, report.root):
        yield (
            f"the stored frontier has size {frontier.size} and root {frontier.root().hex()},"
            f" the entries give size {report.size} and root {report.root.hex()}"
        )


def _named(evidence: Evidence, index: int | None, message: str) -> Finding:
    found = () if index is None else evidence.entries(start=index, end=index + 1)
    copies = next((entry.copies for entry in found), {})
    return Finding(message, index, *(None if copies.get(key) is None else str(copies[key]) for key in ("id", "type")))


def _damaged(entries: int, message: str) -> Finding:
    return Finding(message, entries if message.startswith("entries ") else None)


def _position(finding: Finding) -> float:
    return float("inf") if finding.index is None else finding.index
