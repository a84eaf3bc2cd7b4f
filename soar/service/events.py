"""Lifecycle events for others: entries of the journal as CloudEvents 1.0 (cloudevents.io), in structured JSON.

An event says what its entry's public leaf says and nothing from its payload: no personal data leaves by this door, and
what is erased here was never there. docs/events.md is the contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from soar.journal.leaf import parse_leaf
from soar.model.entry import EntryType
from soar.store.seen import EntryRow

CONTENT_TYPE = b"application/cloudevents+json; charset=UTF-8"
_SEQUENCE_DIGITS = 19  # any 64-bit index, in the order of text

TYPES: Mapping[str, str] = MappingProxyType(
    {
        EntryType.ALERT_ADMITTED: "soar.alert.admitted.v1",
        EntryType.RUN_CREATED: "soar.run.created.v1",
        EntryType.RUN_FINISHED: "soar.run.finished.v1",
        EntryType.APPROVAL_REQUESTED: "soar.approval.requested.v1",
        EntryType.APPROVAL_CLOSED: "soar.approval.closed.v1",
        EntryType.ACTION_OUTCOME: "soar.action.outcome.v1",
    }
)
"""What is told, and the type of the event that tells it."""


@dataclass(frozen=True, slots=True)
class Event:
    """A record for the topic: what has one key stays in one partition, in order."""

    key: bytes
    value: bytes


def event_of(entry: EntryRow, *, source: str) -> Event | None:
    """The event that tells of an entry, None for one that is not told. Raises JournalError for a damaged leaf.

    Its id is the entry's: whoever gets it twice can tell.
    """
    kind = TYPES.get(entry.type)
    if kind is None:
        return None
    leaf = parse_leaf(entry.leaf)
    about: dict[str, Any] = {"subject": leaf["subject"], "actor": leaf["actor"], **leaf["data"]}
    key = str(leaf["subject"])
    if "run" in leaf:
        key = about["run"] = leaf["run"]
    event = {
        "specversion": "1.0",
        "id": leaf["id"],
        "source": source,
        "type": kind,
        "time": leaf["at"],
        "subject": leaf["subject"],
        "partitionkey": key,
        "sequence": f"{entry.index:0{_SEQUENCE_DIGITS}}",
        "datacontenttype": "application/json",
        "data": about,
    }
    return Event(key.encode(), orjson.dumps(event))
