"""The ticket desk."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from soar.lab.exchange import Answer, Nothing, System, refuse, route
from soar.model.base import Frozen, to_rfc3339

Status = Literal["open", "in_progress", "closed"]


class NewTicket(Frozen):
    """What opens a ticket."""

    title: str = Field(min_length=1, max_length=500)
    description: str = ""
    severity: str = "medium"
    labels: tuple[str, ...] = ()


class TicketChange(Frozen):
    """What a ticket is changed to; what is None stays."""

    title: str | None = Field(default=None, min_length=1, max_length=500)
    description: str | None = None
    severity: str | None = None
    status: Status | None = None


class NewComment(Frozen):
    """A remark on a ticket."""

    text: str = Field(min_length=1)


class Closing(Frozen):
    """Why a ticket is closed."""

    resolution: str = "resolved"


class Search(Frozen):
    """Tickets whose key, title or description holds the words; no words: all of them."""

    query: str = ""
    limit: int = Field(default=20, ge=1, le=1000)


class Comment(Frozen):
    """A remark as it stands on a ticket."""

    id: str
    at: str
    text: str


class Ticket(Frozen):
    """One ticket."""

    key: str
    created: str
    title: str
    description: str
    severity: str
    labels: tuple[str, ...]
    status: Status = "open"
    resolution: str | None = None
    comments: tuple[Comment, ...] = ()


class Desk(System):
    """Opening a ticket is keyed; a comment is not: sent twice, it stands there twice."""

    name: ClassVar[str] = "desk"

    def __init__(self) -> None:
        super().__init__()
        self.tickets: dict[str, Ticket] = {}

    def snapshot(self) -> dict[str, Any]:
        """Tickets by key."""
        return {"tickets": {key: ticket.model_dump(mode="json") for key, ticket in self.tickets.items()}}

    @route("POST", "/tickets", takes=NewTicket, keyed=True)
    def open(self, given: NewTicket) -> Answer:
        """Open a ticket."""
        ticket = Ticket(key=f"DESK-{len(self.tickets) + 1}", created=to_rfc3339(self.now), **given.model_dump())
        return self._put(ticket, f"opened ticket {ticket.key}", status=201)

    @route("GET", "/tickets", takes=Search)
    def find(self, given: Search) -> Answer:
        """Newest first."""
        words = given.query.casefold().split()
        hits = [t for t in reversed(self.tickets.values()) if all(word in _text(t) for word in words)]
        return Answer(body={"tickets": [_show(t) for t in hits[: given.limit]], "total": len(hits)})

    @route("GET", "/tickets/{key}")
    def read(self, _: Nothing, key: str) -> Answer:
        """One ticket."""
        ticket = self.tickets.get(key)
        return Answer(body=_show(ticket)) if ticket else _absent(key)

    @route("PATCH", "/tickets/{key}", takes=TicketChange)
    def change(self, given: TicketChange, key: str) -> Answer:
        """Change fields; a closed ticket must be reopened first, or with it."""
        ticket = self.tickets.get(key)
        if ticket is None:
            return _absent(key)
        if ticket.status == "closed" and given.status is None:
            return refuse(409, f"ticket {key} is closed; reopen it by setting its status")
        return self._put(ticket.model_copy(update=given.model_dump(exclude_none=True)), f"changed ticket {key}")

    @route("POST", "/tickets/{key}/close", takes=Closing)
    def close(self, given: Closing, key: str) -> Answer:
        """Close a ticket; closing it again for the same reason changes nothing, for another is a conflict."""
        ticket = self.tickets.get(key)
        if ticket is None:
            return _absent(key)
        if ticket.status == "closed" and ticket.resolution != given.resolution:
            return refuse(409, f"ticket {key} is already closed as {ticket.resolution!r}")
        closed = ticket.model_copy(update={"status": "closed", "resolution": given.resolution})
        return self._put(closed, f"closed ticket {key}")

    @route("POST", "/tickets/{key}/comments", takes=NewComment)
    def comment(self, given: NewComment, key: str) -> Answer:
        """Add a remark, each time anew."""
        ticket = self.tickets.get(key)
        if ticket is None:
            return _absent(key)
        comment = Comment(id=f"{key}-{len(ticket.comments) + 1}", at=to_rfc3339(self.now), text=given.text)
        self._put(ticket.model_copy(update={"comments": (*ticket.comments, comment)}), "")
        return Answer(status=201, body={"key": key, **comment.model_dump()}, effect=f"commented on ticket {key}")

    def _put(self, ticket: Ticket, effect: str, *, status: int = 200) -> Answer:
        changed = self.tickets.get(ticket.key) != ticket
        self.tickets[ticket.key] = ticket
        return Answer(status=status, body=_show(ticket), effect=effect if changed else None)


def _show(ticket: Ticket) -> dict[str, Any]:
    """A ticket and where it stands on the overview, which is what a person can open."""
    return ticket.model_dump(mode="json") | {"url": f"/#{ticket.key}"}


def _text(ticket: Ticket) -> str:
    return f"{ticket.key} {ticket.title} {ticket.description} {' '.join(ticket.labels)}".casefold()


def _absent(key: str) -> Answer:
    return refuse(404, f"no ticket {key!r}")
