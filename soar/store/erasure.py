"""The part of a store's port by which it forgets somebody, and what every store makes of it.

Payloads go whole, working state keeps everything but them. The journal's leaves stay, and every proof with them: a leaf
holds only a salted hash, and the salt goes too.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from soar.errors import NotFoundError, StateConflictError
from soar.model.entry import Entry

ERASED = "(erased)"
_NAMED_RUNS = 5

_CONTENT_NAMED = re.compile(r"/(?:key:)?[0-9a-f]{32}/\d+/\d+")
_KEYED = ("nonce", "request_digest")  # of a binding: whoever has them can recognise the rest by guessing

Path = tuple[str, ...]

# JSON columns, and what in them is free text; all else there is of our own making, and must stay as it is.
FREE: tuple[tuple[str, str, str, tuple[Path, ...]], ...] = (
    ("runs", "vars", "id", ((),)),
    ("runs", "outputs", "id", ((),)),
    ("steps", "record", "run_id", (("result",), ("error",), ("data",))),
    ("attempts", "attempt", "run_id", (("request", "params"), ("request", "targets"), ("error",))),
    ("approvals", "approval", "run_id", (("binding",), ("votes", "reason"), ("votes", "answer"))),
)
"""(table, column, name of the run, paths)."""
TEXTS = (("runs", "lock_key"), ("runs", "error"), ("alerts", "title"), ("alerts", "rule_id"), ("alerts", "rule_name"))
# Names that must stay apart from each other: whoever sends the same thing again is not known by them any more.
NAMES = (("alerts", "uid"), ("alerts", "coordinates"), ("records", "coordinates"), ("dead_letters", "coordinates"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """What in a store tells of somebody, found by the text of their name."""

    entries: tuple[str, ...]  # whose payloads are erased
    alerts: int
    runs: tuple[str, ...]
    open_runs: tuple[str, ...]  # of those, the ones that have not ended
    dead_letters: int
    other: int  # dedupe windows, blast-radius counts, coordinates, switches
    leaves: tuple[str, ...]  # entries whose public part tells of them, which cannot be erased
    playbooks: tuple[str, ...]  # files whose pinned text does: it is the author's to change

    @property
    def anything(self) -> bool:
        """Whether there is anything to erase."""
        return bool(self.entries or self.alerts or self.runs or self.dead_letters or self.other)


class Erases(Protocol):
    """A store that can forget somebody, and stay provable."""

    async def touched(self, subject: str) -> Touched:
        """What `erase` would take; changes nothing."""
        ...

    async def erase(self, subject: str, tell: Callable[[str], Entry], *, elsewhere: Sequence[Entry] = ()) -> Touched:
        """Erase every payload that holds this text, in any case, with its salt; blank the state that repeats it.

        `tell` makes the entry that accounts for the payload of the entry with this id; `elsewhere` are entries that
        account for payloads in the archive. All of it is one transaction. Raises `NotFoundError` where there is nothing
        here, unless there was something in the archive; `StateConflictError` while a run that has not ended needs it;
        `NotAllowedError` where the store's own rules do not let this user.
        """
        ...

    async def scrub(self) -> tuple[str, ...]:
        """Let nothing that was deleted stay in the store's files; returns what of them could not be reached, and why.

        Raises `StoreUnavailableError` while it cannot, `NotAllowedError` where this user may not.
        """
        ...


def consider(found: Touched, elsewhere: Sequence[Entry]) -> None:
    """Raise NotFoundError where there is nothing to erase, StateConflictError where a run still needs it."""
    if not found.anything and not elsewhere:
        raise NotFoundError("nothing in the store tells of this subject; is it spelled as the alerts spell it?")
    if found.open_runs:
        more = len(found.open_runs) - _NAMED_RUNS
        named = ", ".join(found.open_runs[:_NAMED_RUNS]) + (f" and {more} more" if more > 0 else "")
        raise StateConflictError(
            f"{named} still need it and have not ended; let them end, or end them: soar runs cancel RUN --reason ..."
        )


class Subject:
    """Somebody's name as text holds it: in any case, and escaped as JSON within JSON escapes it."""

    def __init__(self, value: str) -> None:
        spellings = {value}
        for _ in range(3):
            spellings |= {json.dumps(each, ensure_ascii=plain)[1:-1] for each in spellings for plain in (True, False)}
        self._spellings = tuple(each.casefold() for each in spellings)

    def named_in(self, text: str | bytes | None) -> bool:
        """Whether this text tells of them."""
        if text is None:
            return False
        folded = (text.decode(errors="replace") if isinstance(text, bytes) else text).casefold()
        return any(each in folded for each in self._spellings)

    def named_in_record(self, record: str) -> bool:
        """Whether a record as it came in, whose bytes are base64 in its JSON, tells of them."""
        fields = json.loads(record)
        raw = (base64.urlsafe_b64decode(fields[name] or "") for name in ("value", "key"))
        return self.named_in(record) or any(map(self.named_in, raw))

    def without(self, value: Any) -> Any:
        """A JSON value with every text that tells of them blanked, names included."""
        if isinstance(value, str):
            return ERASED if self.named_in(value) else value
        if isinstance(value, dict):
            return {self.without(name): self.without(child) for name, child in value.items()}
        if isinstance(value, list):
            return [self.without(child) for child in value]
        return ERASED if isinstance(value, int | float) and self.named_in(json.dumps(value)) else value


def without(document: Any, free: Iterable[tuple[str, ...]], subject: Subject) -> Any:
    """A document with every text in these parts of it blanked that tells of somebody.

    Of a binding in it that is blanked, the nonce goes too: leaves and votes hold digests over both.
    """
    after = document
    for path in free:
        after = _at(after, path, subject)
    bound = after.get("binding") if isinstance(after, dict) else None
    if bound is not None and bound != document["binding"]:
        after = after | {"binding": bound | {name: ERASED for name in _KEYED if name in bound}}
    return after


def content_named(coordinates: str) -> bool:
    """Whether these coordinates hold a digest of what came: of a file, or of a delivery with its key."""
    return _CONTENT_NAMED.search(coordinates) is not None


def _at(value: Any, path: tuple[str, ...], subject: Subject) -> Any:
    """The value with what stands at `path` blanked; a list on the way means each of its items."""
    if isinstance(value, list) and path:
        return [_at(child, path, subject) for child in value]
    if not path:
        return subject.without(value)
    head, *rest = path
    return value | {head: _at(value[head], tuple(rest), subject)} if value and value.get(head) is not None else value
