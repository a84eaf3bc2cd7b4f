"""From one element of a payload to the fields of an Alert, as its mapping says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from soar.ingest import values
from soar.ingest.expressions import Getter
from soar.ingest.fields import EntityFields, IpFields
from soar.ingest.mapping import Mapping
from soar.ingest.severity import Reading
from soar.ingest.times import parse_time
from soar.model.alert import (
    Attack,
    Email,
    Entities,
    File,
    Host,
    Ip,
    Observables,
    Process,
    Resource,
    Rule,
    Severity,
    Url,
    User,
)
from soar.model.base import Frozen

MAX_ENTITIES = 100  # of one kind; an alert that names more hosts is a report
MAX_OBSERVABLES = 500
MAX_LABELS = 64
MAX_LABEL_NAME = 128

Scope = dict[str, Any]
Convert = Callable[[Any], Any]

_ABSENT = frozenset({"", "-", "n/a", "null", "(null)", "none"})
_MODELS: dict[str, type[Frozen]] = {
    "hosts": Host,
    "users": User,
    "ips": Ip,
    "files": File,
    "processes": Process,
    "urls": Url,
    "emails": Email,
    "resources": Resource,
}
_REQUIRED = {"ips": "address", "urls": "url", "resources": "id"}
_CONVERT: dict[str, Convert] = {
    "ip": values.address,
    "address": values.address,
    "email": values.email,
    "sender": values.email,
    "recipients": values.email,
    "sha256": values.sha256,
    "sha1": values.sha1,
    "md5": values.md5,
    "pid": values.pid,
    "command_line": values.long_name,
    "path": values.long_name,
    "url": values.long_name,
}
_CONVERT_OBSERVABLE: dict[str, Convert] = {**_CONVERT, "domain": values.domain}
_TECHNIQUE = re.compile(r"\bT\d{4}(?:\.\d{3})?\b", re.ASCII)
_TACTIC = re.compile(r"\bTA\d{4}\b", re.ASCII)


class Extract:
    """Reads one element. With a `trace`, notes there which expression filled each field."""

    def __init__(self, mapping: Mapping, scope: Scope, trace: dict[str, str] | None = None) -> None:
        self.mapping = mapping
        self.scope = scope
        self.trace = trace
        self.absent = _ABSENT.union(word.casefold() for word in mapping.absent) if mapping.absent else _ABSENT

    def one(self, field: str, getters: Sequence[Getter], convert: Convert, scope: Scope | None = None) -> Any:
        """The first usable value of the first expression that gives one, or None."""
        if scope is None:
            scope = self.scope
        for getter in getters:
            value = getter.get(scope)
            if value is None:
                continue
            for item in self._present(value):
                found = convert(item)
                if found is not None:
                    self._note(field, getter)
                    return found
        return None

    def many(self, field: str, getters: Sequence[Getter], convert: Convert, scope: Scope | None = None) -> list[Any]:
        """The usable values of all expressions, without repeats."""
        found: dict[Any, None] = {}
        for getter in getters:
            for item in self._present(getter.get(self.scope if scope is None else scope)):
                converted = convert(item)
                if converted is not None and len(found) < MAX_OBSERVABLES:
                    found[converted] = None
                    self._note(field, getter)
        return list(found)

    def severity(self, field: str, readings: Iterable[Reading]) -> tuple[Severity, int] | None:
        """The first severity that a reading understands."""
        for reading in readings:
            for getter in reading.source:
                found = reading.understand(getter.get(self.scope))
                if found:
                    self._note(field, getter)
                    return found
        return None

    def time(self) -> datetime | None:
        """The first expression's value that is a time."""
        return self.one("time", self.mapping.time, lambda value: parse_time(value, self.mapping.time_formats))  # type: ignore[no-any-return]

    def rule(self) -> Rule:
        """The detection rule, as far as the payload names it."""
        spec = self.mapping.rule
        return Rule(id=self.one("rule.id", spec.id, values.name), name=self.one("rule.name", spec.name, values.line))

    def attack(self) -> Attack:
        """ATT&CK: ids where the text holds ids, else the text."""
        spec = self.mapping.attack
        tactics = self.many("attack.tactics", spec.tactics, values.line)
        techniques = self.many("attack.techniques", spec.techniques, values.line)
        return Attack(tactics=_ids(tactics, _TACTIC), techniques=_ids(techniques, _TECHNIQUE))

    def entities(self) -> Entities:
        """Who and what the element is about."""
        found = {kind: self._kind(kind, specs) for kind, specs in self.mapping.entities if specs}
        return Entities(**found)

    def observables(self, entities: Entities) -> Observables:
        """What the entities hold, then what the mapping names."""
        found = _of_entities(entities)
        for kind, getters in self.mapping.observables:
            if getters:
                convert = _CONVERT_OBSERVABLE.get(kind, values.name)
                found[kind] = [*found.get(kind, ()), *self.many(f"observables.{kind}", getters, convert)]
        return Observables(**{kind: _unique(items)[:MAX_OBSERVABLES] for kind, items in found.items()})

    def labels(self) -> dict[str, str]:
        """Named labels first, then the entries of whole objects; names that are ours cannot be given."""
        named = ((name, self._label(name, getters)) for name, getters in self.mapping.labels.items())
        found = {name: text for name, text in named if text}
        for getter in self.mapping.labels_from:
            given = getter.get(self.scope)
            for key, value in given.items() if isinstance(given, dict) else ():
                self._add_label(found, getter, values.line(key, MAX_LABEL_NAME), values.label(value))
        return found

    def _add_label(self, found: dict[str, str], getter: Getter, name: str | None, text: str | None) -> None:
        if name and text and not name.startswith("soar.") and name not in found and len(found) < MAX_LABELS:
            found[name] = text
            self._note(f"labels.{name}", getter)

    def _label(self, name: str, getters: Sequence[Getter]) -> str | None:
        """As `one`, but a list is given whole."""
        for getter in getters:
            text = values.label(self._present(getter.get(self.scope)))
            if text:
                self._note(f"labels.{name}", getter)
                return text
        return None

    def _kind(self, kind: str, lines: Sequence[EntityFields]) -> tuple[Frozen, ...]:
        found: dict[Any, Frozen] = {}
        for spec in lines:
            for scope in self._scopes(spec):
                entity = self._entity(kind, spec, scope)
                if entity is not None and len(found) < MAX_ENTITIES:
                    # An address is one entity whatever its role: the first line of the mapping that names it wins.
                    found.setdefault(entity.address if isinstance(entity, Ip) else entity, entity)
        return tuple(found.values())

    def _scopes(self, spec: EntityFields) -> Iterator[Scope]:
        if spec.each is None:
            yield self.scope
            return
        given = spec.each.get(self.scope)
        for item in (given if isinstance(given, list) else [given])[: 10 * MAX_ENTITIES]:
            if isinstance(item, dict):
                yield {**item, "_parent": self.scope}
            elif item is not None:
                yield {"value": item, "_parent": self.scope}

    def _entity(self, kind: str, spec: EntityFields, scope: Scope) -> Frozen | None:
        if spec.heads is not None and spec.heads.isdisjoint(scope):
            return None
        found: dict[str, Any] = {}
        for field, getters in spec.filled:
            convert = _CONVERT.get(field, values.name)
            if field == "recipients":
                found[field] = tuple(self.many(f"{kind}.{field}", getters, convert, scope))
            else:
                found[field] = self.one(f"{kind}.{field}", getters, convert, scope)
        if not found.get(_REQUIRED[kind]) if kind in _REQUIRED else not any(found.values()):
            return None
        if isinstance(spec, IpFields):
            found["role"] = spec.role
        return _MODELS[kind](**found)

    def _present(self, value: Any) -> list[Any]:
        """The values in a list, or the one, without those that say "nothing"."""
        return [
            item
            for item in (value if isinstance(value, list) else (value,))
            if item is not None and not (isinstance(item, str) and item.strip().casefold() in self.absent)
        ]

    def _note(self, field: str, getter: Getter) -> None:
        if self.trace is not None:
            self.trace.setdefault(field, getter.source)


def _ids(texts: Iterable[str], pattern: re.Pattern[str]) -> tuple[str, ...]:
    return tuple(_unique(part for text in texts for part in (pattern.findall(text) or [text])))


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _of_entities(entities: Entities) -> dict[str, list[str]]:
    found: dict[str, list[str | None]] = {
        "ip": [*(ip.address for ip in entities.ips), *(host.ip for host in entities.hosts)],
        "url": [url.url for url in entities.urls],
        "hostname": [host.name for host in entities.hosts],
        "user": [user.name for user in entities.users],
        "email": [user.email for user in entities.users],
    }
    for message in entities.emails:
        found["email"] += [message.sender, *message.recipients]
    for kind in ("sha256", "sha1", "md5"):
        found[kind] = [getattr(file, kind) for file in entities.files]
    return {kind: [item for item in items if item] for kind, items in found.items()}
