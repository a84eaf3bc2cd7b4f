"""What a mapping can fill: for every entity of an Alert, the expressions that give its fields."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from soar.ingest.expressions import Expressions, Getter, OneExpression
from soar.model.base import Frozen


class RuleFields(Frozen):
    """The detection rule."""

    id: Expressions = ()
    name: Expressions = ()


class AttackFields(Frozen):
    """MITRE ATT&CK; all expressions contribute."""

    tactics: Expressions = ()
    techniques: Expressions = ()


class EntityFields(Frozen):
    """One line of an entity list: one entity, or with `each` one for every element that `each` gives."""

    each: OneExpression | None = None

    @cached_property
    def filled(self) -> tuple[tuple[str, tuple[Getter, ...]], ...]:
        """The fields that have expressions, with them."""
        fields = ((name, getattr(self, name)) for name in type(self).model_fields)
        return tuple((name, value) for name, value in fields if value and isinstance(value, tuple))

    @cached_property
    def heads(self) -> frozenset[str] | None:
        """The keys of which a payload must have one for anything to be found; None where that cannot be told."""
        paths = [getter.path for _, getters in self.filled for getter in getters]
        return frozenset(path[0] for path in paths) if all(paths) else None


class HostFields(EntityFields):
    """A machine."""

    id: Expressions = ()
    name: Expressions = ()
    ip: Expressions = ()
    os: Expressions = ()


class UserFields(EntityFields):
    """An account."""

    id: Expressions = ()
    name: Expressions = ()
    email: Expressions = ()
    domain: Expressions = ()


class IpFields(EntityFields):
    """An address; its role is a word, not an expression."""

    address: Expressions
    role: Literal["source", "destination", "attacker", "target"] | None = None


class FileFields(EntityFields):
    """A file."""

    name: Expressions = ()
    path: Expressions = ()
    sha256: Expressions = ()
    sha1: Expressions = ()
    md5: Expressions = ()


class ProcessFields(EntityFields):
    """A process."""

    name: Expressions = ()
    pid: Expressions = ()
    command_line: Expressions = ()
    path: Expressions = ()


class UrlFields(EntityFields):
    """A web address."""

    url: Expressions


class EmailFields(EntityFields):
    """A message."""

    sender: Expressions = ()
    recipients: Expressions = ()
    subject: Expressions = ()
    message_id: Expressions = ()


class ResourceFields(EntityFields):
    """A cloud or cluster resource."""

    id: Expressions
    type: Expressions = ()
    name: Expressions = ()
    account: Expressions = ()
    region: Expressions = ()


class EntitiesFields(Frozen):
    """The entity lists."""

    hosts: tuple[HostFields, ...] = ()
    users: tuple[UserFields, ...] = ()
    ips: tuple[IpFields, ...] = ()
    files: tuple[FileFields, ...] = ()
    processes: tuple[ProcessFields, ...] = ()
    urls: tuple[UrlFields, ...] = ()
    emails: tuple[EmailFields, ...] = ()
    resources: tuple[ResourceFields, ...] = ()


class ObservablesFields(Frozen):
    """Values to look up that are no entity's; all expressions contribute."""

    ip: Expressions = ()
    domain: Expressions = ()
    url: Expressions = ()
    email: Expressions = ()
    hostname: Expressions = ()
    user: Expressions = ()
    sha256: Expressions = ()
    sha1: Expressions = ()
    md5: Expressions = ()
