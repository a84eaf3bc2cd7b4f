"""What a mapping can fill: for every entity of an Alert, the expressions that give its fields."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from soar.ingest.expressions import NOTHING, Expressions, Getters, OneExpression
from soar.model.base import Frozen


class Several(Frozen):
    """A group of fields, each with its expressions."""

    def among(self, keys: frozenset[str]) -> Several:
        """What a payload with no other keys than these can fill of it."""
        return self.model_construct(**{name: getattr(self, name).among(keys) for name in type(self).model_fields})


class RuleFields(Several):
    """The detection rule."""

    id: Expressions = NOTHING
    name: Expressions = NOTHING


class AttackFields(Several):
    """MITRE ATT&CK; all expressions contribute."""

    tactics: Expressions = NOTHING
    techniques: Expressions = NOTHING


class EntityFields(Frozen):
    """One line of an entity list: one entity, or with `each` one for every element that `each` gives."""

    each: OneExpression | None = None

    @cached_property
    def filled(self) -> tuple[tuple[str, Getters], ...]:
        """The fields that have expressions, with them."""
        fields = ((name, getattr(self, name)) for name in type(self).model_fields)
        return tuple((name, value) for name, value in fields if value and isinstance(value, Getters))

    @cached_property
    def _projected(self) -> frozenset[str]:
        """The keys from which its expressions project."""
        return frozenset(getter.path[0] for _, getters in self.filled for getter in getters if getter.projects)

    def within(self, around: dict[str, Any]) -> EntityFields:
        """The same for all elements of one payload: what is the same for each of them is computed once."""
        if self._projected.isdisjoint(around):
            return self
        fixed = {name: Getters(getter.fixed(around) for getter in getters) for name, getters in self.filled}
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return self.model_construct(**{**given, **fixed})

    def among(self, keys: frozenset[str]) -> EntityFields | None:
        """What a payload with no other keys than these can fill of it, if anything."""
        if self.each is not None:
            return self if Getters([self.each]).among(keys) else None
        fields = {name: getters.among(keys) for name, getters in self.filled}
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return self.model_construct(**{**given, **fields}) if any(fields.values()) else None


class HostFields(EntityFields):
    """A machine."""

    id: Expressions = NOTHING
    name: Expressions = NOTHING
    ip: Expressions = NOTHING
    os: Expressions = NOTHING


class UserFields(EntityFields):
    """An account."""

    id: Expressions = NOTHING
    name: Expressions = NOTHING
    email: Expressions = NOTHING
    domain: Expressions = NOTHING


class IpFields(EntityFields):
    """An address; its role is a word, not an expression."""

    address: Expressions
    role: Literal["source", "destination", "attacker", "target"] | None = None


class FileFields(EntityFields):
    """A file."""

    name: Expressions = NOTHING
    path: Expressions = NOTHING
    sha256: Expressions = NOTHING
    sha1: Expressions = NOTHING
    md5: Expressions = NOTHING


class ProcessFields(EntityFields):
    """A process."""

    name: Expressions = NOTHING
    pid: Expressions = NOTHING
    command_line: Expressions = NOTHING
    path: Expressions = NOTHING


class UrlFields(EntityFields):
    """A web address."""

    url: Expressions


class EmailFields(EntityFields):
    """A message."""

    sender: Expressions = NOTHING
    recipients: Expressions = NOTHING
    subject: Expressions = NOTHING
    message_id: Expressions = NOTHING


class ResourceFields(EntityFields):
    """A cloud or cluster resource."""

    id: Expressions
    type: Expressions = NOTHING
    name: Expressions = NOTHING
    account: Expressions = NOTHING
    region: Expressions = NOTHING


class EntitiesFields(Frozen):
    """The entity lists."""

    def among(self, keys: frozenset[str]) -> EntitiesFields:
        """What a payload with no other keys than these can fill of them."""
        lists: dict[str, Any] = {
            kind: tuple(filter(None, (line.among(keys) for line in lines))) for kind, lines in self.lists
        }
        return EntitiesFields.model_construct(**lists)

    @cached_property
    def lists(self) -> tuple[tuple[str, tuple[EntityFields, ...]], ...]:
        """All of them, by name."""
        return tuple((kind, getattr(self, kind)) for kind in type(self).model_fields)

    hosts: tuple[HostFields, ...] = ()
    users: tuple[UserFields, ...] = ()
    ips: tuple[IpFields, ...] = ()
    files: tuple[FileFields, ...] = ()
    processes: tuple[ProcessFields, ...] = ()
    urls: tuple[UrlFields, ...] = ()
    emails: tuple[EmailFields, ...] = ()
    resources: tuple[ResourceFields, ...] = ()


class ObservablesFields(Several):
    """Values to look up that are no entity's; all expressions contribute."""

    @cached_property
    def filled(self) -> tuple[tuple[str, Getters], ...]:
        """The kinds that have expressions, with them."""
        fields = ((kind, getattr(self, kind)) for kind in type(self).model_fields)
        return tuple((kind, getters) for kind, getters in fields if getters)

    ip: Expressions = NOTHING
    domain: Expressions = NOTHING
    url: Expressions = NOTHING
    email: Expressions = NOTHING
    hostname: Expressions = NOTHING
    user: Expressions = NOTHING
    sha256: Expressions = NOTHING
    sha1: Expressions = NOTHING
    md5: Expressions = NOTHING
