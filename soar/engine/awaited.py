"""Which waiting runs an alert may concern, found by a key and not by asking each of them.

A step that waits `for_alert` is kept under one text that its alert must hold, such as the host that this run is about.
The key names the field and the text: `<field in hex>:<SHA-256 of the text>`, so that the store can tell which fields
are waited for at all, and look for nothing else. A wait that asks for no single text has the key "", and every
alert is held against it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from soar.library.fields import split_path, values_at
from soar.library.index import checks
from soar.model.playbook import Trigger
from soar.model.run import StepRecord

EVERY = ""
_LONGEST_FIELD = 200  # in characters; a database's index takes no key of any length


def key_of(rendered: Trigger, written: Trigger) -> str:
    """The key of a wait for `rendered`, of which the playbook's file says `written`.

    A text that came from the run tells alerts apart better than one that stands in the file.
    """
    texts = {field: match.any_of[0] for field, match in rendered.match.items() if match.any_of and not match.any_of[1:]}
    fields = [field for field, text in texts.items() if isinstance(text, str) and len(field) <= _LONGEST_FIELD]
    if not fields:
        return EVERY
    best = next((field for field in fields if written.match.get(field) != rendered.match[field]), fields[0])
    return _key(best, str(texts[best]))


def keys_in(documents: Iterable[Mapping[str, Any]], fields: Iterable[str]) -> set[str]:
    """Every key under which a run may wait for one of these alerts, of those fields (in hex) that are waited for."""
    named = [bytes.fromhex(field).decode("utf-8", "surrogatepass") for field in fields]
    return {key for document in documents for field in named for key in _keys_at(document, field)}


class Awaited:
    """Open waits, to be held against one alert after the other."""

    def __init__(self, waits: Sequence[StepRecord]) -> None:
        self._by_key: dict[str, list[tuple[StepRecord, Trigger]]] = {}
        for wait in waits:
            trigger = Trigger.model_validate(wait.data["trigger"])
            self._by_key.setdefault(wait.data.get("awaits", EVERY), []).append((wait, trigger))
        self._fields = {key.partition(":")[0] for key in self._by_key if key != EVERY}

    def ended_by(self, document: Mapping[str, Any]) -> list[StepRecord]:
        """The waits that this alert ends; they are open no more."""
        keys = [EVERY, *keys_in([document], self._fields)] if self._by_key else []
        return [wait for key in keys for wait in self._take(key, document)]

    def _take(self, key: str, document: Mapping[str, Any]) -> list[StepRecord]:
        waits = self._by_key.get(key, [])
        ended = [(wait, trigger) for wait, trigger in waits if all(one.held for one in checks(trigger, document))]
        if ended:
            self._by_key[key] = [each for each in waits if each not in ended]
        return [wait for wait, _ in ended]


def _keys_at(document: Mapping[str, Any], field: str) -> set[str]:
    parts = split_path(field) or (field,)
    return {_key(field, text) for text in values_at(document, parts) if isinstance(text, str)}


def _key(field: str, text: str) -> str:
    return f"{_bytes(field).hex()}:{hashlib.sha256(_bytes(text)).hexdigest()}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
