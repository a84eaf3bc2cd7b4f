"""From one element of a payload to the fields of an Alert, as JSON, as its mapping says.

Every consumed record comes through here, so it is plain dictionaries, and of a mapping only what the payload's keys let
it find.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from soar.ingest import values
from soar.ingest.expressions import Getter, Getters
from soar.ingest.fields import EntityFields
from soar.ingest.mapping import Mapping
from soar.ingest.severity import Reading
from soar.ingest.times import parse_time
from soar.model.alert import Email, Entities, File, Host, Ip, Observables, Process, Resource, Severity, Url, User
from soar.model.base import Frozen

MAX_ENTITIES = 100  # of one kind; an alert that names more hosts is a report
MAX_OBSERVABLES = 500
MAX_LABELS = 64
MAX_LABEL_NAME = 128

Scope = dict[str, Any]
Convert = Callable[[Any], Any]
Entity = dict[str, Any]

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
assert _MODELS.keys() == Entities.model_fields.keys()
_EMPTY: dict[str, Entity] = {kind: dict.fromkeys(model.model_fields) for kind, model in _MODELS.items()}
_OBSERVABLES = tuple(Observables.model_fields)
_HASHES = ("sha256", "sha1", "md5")
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
        self.mapping = mapping.among(frozenset(scope))
        self.scope = scope
        self.trace = trace
        self.absent = _ABSENT.union(word.casefold() for word in mapping.absent) if mapping.absent else _ABSENT

    def one(self, field: str, getters: Getters, convert: Convert, scope: Scope | None = None) -> Any:
        """The first usable value of the first expression that gives one, or None."""
        if scope is None:
            scope = self.scope
        for getter in getters:
            value = getter.get(scope)
            if value is None:
                continue
            if type(value) is str:
                found = None if value.strip().casefold() in self.absent else convert(value)
            elif type(value) is list:
                found = next(filter(_given, map(convert, self._present(value))), None)
            else:
                found = convert(value)
            if found is not None:
                if self.trace is not None:
                    self._note(field, getter)
                return found
        return None

    def many(self, field: str, getters: Getters, convert: Convert, scope: Scope | None = None) -> list[Any]:
        """The usable values of all expressions, without repeats."""
        if scope is None:
            scope = self.scope
        found: dict[Any, None] = {}
        for getter in getters:
            value = getter.get(scope)
            for item in () if value is None else self._present(value):
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

    def rule(self) -> tuple[str | None, str | None]:
        """Id and name of the detection rule, as far as the payload names it."""
        spec = self.mapping.rule
        return self.one("rule.id", spec.id, values.name), self.one("rule.name", spec.name, values.line)

    def attack(self) -> dict[str, list[str]]:
        """ATT&CK: ids where the text holds ids, else the text."""
        spec = self.mapping.attack
        tactics = self.many("attack.tactics", spec.tactics, values.line)
        techniques = self.many("attack.techniques", spec.techniques, values.line)
        return {"tactics": _ids(tactics, _TACTIC), "techniques": _ids(techniques, _TECHNIQUE)}

    def entities(self) -> dict[str, list[Entity]]:
        """Who and what the element is about."""
        return {kind: self._kind(kind, lines) if lines else [] for kind, lines in self.mapping.entities.lists}

    def observables(self, entities: dict[str, list[Entity]]) -> dict[str, list[str]]:
        """What the entities hold, then what the mapping names."""
        found = _of_entities(entities)
        for kind, getters in self.mapping.observables.filled:
            convert = _CONVERT_OBSERVABLE.get(kind, values.name)
            found[kind] += self.many(f"observables.{kind}", getters, convert)
        return {kind: _distinct(items) if items else [] for kind, items in found.items()}

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

    def _label(self, name: str, getters: Getters) -> str | None:
        """As `one`, but a list is given whole."""
        for getter in getters:
            text = values.label(self._present(getter.get(self.scope)))
            if text:
                self._note(f"labels.{name}", getter)
                return text
        return None

    def _kind(self, kind: str, lines: Sequence[EntityFields]) -> list[Entity]:
        if len(lines) == 1 and lines[0].each is None:
            only = self._entity(kind, lines[0], self.scope)
            return [] if only is None else [only]
        found: dict[Any, Entity] = {}
        for spec in lines:
            around = spec if spec.each is None else spec.within({"_parent": self.scope})
            for scope in (self.scope,) if spec.each is None else self._scopes(spec.each):
                if len(found) == MAX_ENTITIES:
                    break
                entity = self._entity(kind, around, scope)
                if entity is not None:
                    found.setdefault(_name(kind, entity), entity)
        return list(found.values())

    def _scopes(self, each: Getter) -> Iterator[Scope]:
        given = each.get(self.scope)
        for item in (given if isinstance(given, list) else [given])[: 10 * MAX_ENTITIES]:
            if isinstance(item, dict):
                yield {**item, "_parent": self.scope}
            elif item is not None:
                yield {"value": item, "_parent": self.scope}

    def _entity(self, kind: str, spec: EntityFields, scope: Scope) -> Entity | None:
        found = _EMPTY[kind].copy()
        for field, getters in spec.filled:
            read = self.many if field == "recipients" else self.one
            label = field if self.trace is None else f"{kind}.{field}"
            found[field] = read(label, getters, _CONVERT.get(field, values.name), scope)
        if not found[_REQUIRED[kind]] if kind in _REQUIRED else not any(found.values()):
            return None
        if kind == "ips":
            found["role"] = spec.role  # type: ignore[attr-defined]
        elif kind == "emails" and found["recipients"] is None:
            found["recipients"] = []
        return found

    def _present(self, value: Any) -> list[Any]:
        """The values in a list, or the one, without those that say "nothing"."""
        return [
            item
            for item in (value[:MAX_OBSERVABLES] if isinstance(value, list) else (value,))
            if item is not None and not (isinstance(item, str) and item.strip().casefold() in self.absent)
        ]

    def _note(self, field: str, getter: Getter) -> None:
        if self.trace is not None:
            self.trace.setdefault(field, getter.source)


def _name(kind: str, entity: Entity) -> Any:
    """What makes it another one. An address is one whatever its role: the mapping's first line that names it wins."""
    if kind == "ips":
        return entity["address"]
    return tuple(tuple(value) if isinstance(value, list) else value for value in entity.values())


def _ids(texts: list[str], pattern: re.Pattern[str]) -> list[str]:
    if not texts or (len(texts) == 1 and pattern.fullmatch(texts[0])):
        return texts
    return list(dict.fromkeys(part for text in texts for part in (pattern.findall(text) or [text])))


def _given(value: Any) -> bool:
    return value is not None


def _distinct(items: list[str | None]) -> list[str]:
    return list(dict.fromkeys(filter(None, items)))[:MAX_OBSERVABLES]


def _of_entities(entities: dict[str, list[Entity]]) -> dict[str, list[str | None]]:
    """For each kind of observable what stands in entities of all kinds, also None."""
    found: dict[str, list[str | None]] = {kind: [] for kind in _OBSERVABLES}
    found["ip"] = [ip["address"] for ip in entities["ips"]]
    for host in entities["hosts"]:
        found["ip"].append(host["ip"])
        found["hostname"].append(host["name"])
    for url in entities["urls"]:
        found["url"].append(url["url"])
    for user in entities["users"]:
        found["user"].append(user["name"])
        found["email"].append(user["email"])
    for message in entities["emails"]:
        found["email"] += (message["sender"], *message["recipients"])
    for file in entities["files"]:
        for kind in _HASHES:
            found[kind].append(file[kind])
    return found
