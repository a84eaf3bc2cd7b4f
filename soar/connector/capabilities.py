"""What can be done, whoever's product does it: neutral verbs with typed params and results.

A connector's action that names a capability takes at least its fields, asks for no others, and returns at least its
result's; so a playbook written with capabilities runs on any product that offers them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, Field

from soar.connector.base import BoundAction, Model, Result
from soar.model.alert import Severity

IocType = Literal["ip", "domain", "url", "sha256", "sha1", "md5", "email"]


class TicketCreate(Model):
    """A new ticket."""

    title: str = Field(min_length=1)
    description: str = ""
    severity: Severity = Severity.MEDIUM
    labels: tuple[str, ...] = ()


class TicketCreated(Result):
    """Its key, and where people see it."""

    key: str
    url: str


class TicketKey(Result):
    """The ticket that was changed."""

    key: str


class TicketUpdate(Model):
    """What changes; None leaves a field as it is."""

    key: str = Field(min_length=1)
    title: str | None = None
    description: str | None = None
    severity: Severity | None = None
    status: str | None = None


class TicketComment(Model):
    """A comment, plain text."""

    key: str = Field(min_length=1)
    text: str = Field(min_length=1)


class TicketClose(Model):
    """An end, with the product's word for how it was resolved."""

    key: str = Field(min_length=1)
    resolution: str = "resolved"


class TicketStatus(Result):
    """Where the ticket stands now."""

    key: str
    status: str


class TicketFind(Model):
    """Words to look for."""

    query: str = Field(min_length=1)
    limit: int = Field(default=20, ge=1, le=100)


class Ticket(Result):
    """One ticket that was found."""

    key: str
    title: str
    status: str
    url: str


class Tickets(Result):
    """What was found, the product's order."""

    tickets: tuple[Ticket, ...]


class Host(Model):
    """A host, by the name or id that the product knows."""

    host: str = Field(min_length=1)


class HostState(Result):
    """Whether the host is cut off."""

    host: str
    isolated: bool


class Account(Model):
    """An account, by the name or id that the product knows."""

    user: str = Field(min_length=1)


class AccountState(Result):
    """Whether the account can be used."""

    user: str
    enabled: bool


class SessionsRevoked(Result):
    """How many sessions ended."""

    user: str
    revoked: int


class IpBlock(Model):
    """An address, and why."""

    ip: str = Field(min_length=1)
    reason: str = ""


class IpState(Result):
    """Whether traffic of the address is dropped."""

    ip: str
    blocked: bool


class IocLookup(Model):
    """An observable."""

    type: IocType
    value: str = Field(min_length=1)


class IocVerdict(Result):
    """What is known of it: votes, and a score from 0 (harmless) to 100."""

    type: str
    value: str
    known: bool
    malicious: int
    suspicious: int
    score: int = Field(ge=0, le=100)
    tags: tuple[str, ...]


class IocBlock(Model):
    """An observable to block, and why."""

    type: IocType
    value: str = Field(min_length=1)
    reason: str = ""


class IocState(Result):
    """Whether it is blocked."""

    type: str
    value: str
    blocked: bool


class SiemSearch(Model):
    """A query in the product's own language, over a span in its own notation."""

    query: str = Field(min_length=1)
    earliest: str = "-24h"
    latest: str = "now"
    limit: int = Field(default=100, ge=1, le=10_000)


class SiemRows(Result):
    """Rows found, and how many."""

    rows: tuple[dict[str, object], ...]
    count: int


class SiemUpdateAlert(Model):
    """A new status for an alert in the SIEM."""

    id: str = Field(min_length=1)
    status: str = Field(min_length=1)
    comment: str = ""


class SiemAlert(Result):
    """The alert as it stands now."""

    id: str
    status: str


class NotifySend(Model):
    """A message, plain text, to a channel."""

    channel: str = Field(min_length=1)
    text: str = Field(min_length=1)
    severity: Severity = Severity.INFORMATIONAL


class PageTrigger(Model):
    """A page; calls with one `dedup_key` are one page."""

    summary: str = Field(min_length=1)
    severity: Severity
    dedup_key: str = ""


class EmailSend(Model):
    """A mail, plain text."""

    to: str = Field(min_length=1)
    subject: str = Field(min_length=1)
    text: str


class Sent(Result):
    """What the product calls what was sent."""

    id: str


class EmailSearch(Model):
    """Mails to look for."""

    query: str = Field(min_length=1)
    limit: int = Field(default=50, ge=1, le=1000)


class Email(Result):
    """One mail that was found."""

    id: str
    sender: str
    subject: str


class Emails(Result):
    """What was found, and how many."""

    messages: tuple[Email, ...]
    count: int


class EmailDelete(Model):
    """Mails to delete, by id."""

    ids: tuple[str, ...] = Field(min_length=1, max_length=1000)


class EmailsDeleted(Result):
    """How many are gone."""

    deleted: int


@dataclass(frozen=True)
class Capability:
    """A neutral verb: its name, and what goes in and comes out."""

    name: str
    params: type[BaseModel]
    result: type[BaseModel]
    summary: str


CAPABILITIES: Mapping[str, Capability] = MappingProxyType(
    {
        name: Capability(name, params, result, summary)
        for name, params, result, summary in (
            ("ticket.create", TicketCreate, TicketCreated, "Open a ticket."),
            ("ticket.update", TicketUpdate, TicketKey, "Change fields of a ticket."),
            ("ticket.comment", TicketComment, TicketKey, "Comment on a ticket."),
            ("ticket.close", TicketClose, TicketStatus, "Close a ticket."),
            ("ticket.find", TicketFind, Tickets, "Find tickets by words."),
            ("host.isolate", Host, HostState, "Cut a host off the network."),
            ("host.release", Host, HostState, "Let an isolated host back."),
            ("host.status", Host, HostState, "Say whether a host is cut off."),
            ("account.disable", Account, AccountState, "Lock an account."),
            ("account.enable", Account, AccountState, "Unlock an account."),
            ("account.revoke_sessions", Account, SessionsRevoked, "End all sessions of an account."),
            ("account.get", Account, AccountState, "Say whether an account can be used."),
            ("ip.block", IpBlock, IpState, "Drop the traffic of an address."),
            ("ip.unblock", IpBlock, IpState, "Let the traffic of an address pass again."),
            ("ioc.lookup", IocLookup, IocVerdict, "Ask what is known of an observable."),
            ("ioc.block", IocBlock, IocState, "Block an observable."),
            ("siem.search", SiemSearch, SiemRows, "Search events."),
            ("siem.update_alert", SiemUpdateAlert, SiemAlert, "Set the status of an alert."),
            ("notify.send", NotifySend, Sent, "Send a message to a channel."),
            ("page.trigger", PageTrigger, Sent, "Wake whoever is on call."),
            ("email.send", EmailSend, Sent, "Send a mail."),
            ("email.search", EmailSearch, Emails, "Find mails in mailboxes."),
            ("email.delete", EmailDelete, EmailsDeleted, "Delete mails from mailboxes."),
        )
    }
)


def shortfalls(bound: BoundAction) -> list[str]:
    """Why the action does not keep the promise of the capability it names; empty where it does or names none."""
    if bound.spec.capability is None:
        return []
    capability = CAPABILITIES.get(bound.spec.capability)
    if capability is None:
        return [f"{bound.spec.capability!r} is no capability"]
    wanted, taken = capability.params.model_fields, bound.params.model_fields
    found = [f"params lack {name!r}" for name in wanted if name not in taken]
    for name, field in taken.items():
        if field.is_required() and (name not in wanted or not wanted[name].is_required()):
            found.append(f"params require {name!r}, which the capability does not")
    given = bound.result.model_fields
    found += [f"the result lacks {name!r}" for name in capability.result.model_fields if name not in given]
    return found
