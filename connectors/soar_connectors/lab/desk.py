"""The lab's ticket desk."""

from __future__ import annotations

from pydantic import BaseModel

from soar.connector.base import Call, action
from soar.connector.capabilities import (
    Ticket,
    TicketClose,
    TicketComment,
    TicketCreate,
    TicketCreated,
    TicketFind,
    TicketKey,
    Tickets,
    TicketStatus,
    TicketUpdate,
)
from soar.connector.sinks import path_segment
from soar.model.action import Effect
from soar_connectors.lab.base import LabConnector, keyed


class LabDesk(LabConnector):
    """Tickets in the lab. The desk gives a ticket's URL relative to itself; ours is whole."""

    name = "lab_desk"
    product = "Lab ticket desk"
    probe = "/desk/tickets"

    @action(effect=Effect.KEYED, capability="ticket.create")
    async def create_ticket(self, params: TicketCreate, call: Call) -> TicketCreated:
        """Open a ticket."""
        answer = await self.http.request("POST", "/desk/tickets", call=call, json=_json(params), headers=keyed(call))
        created = answer.parse(TicketCreated)
        return TicketCreated(key=created.key, url=self._whole(created.url))

    @action(effect=Effect.IDEMPOTENT, capability="ticket.update")
    async def update_ticket(self, params: TicketUpdate, call: Call) -> TicketKey:
        """Change fields of a ticket; status is open, in_progress or closed."""
        answer = await self.http.request("PATCH", _path(params.key), call=call, json=_json(params))
        return answer.parse(TicketKey)

    @action(effect=Effect.UNSAFE, capability="ticket.comment")
    async def comment_ticket(self, params: TicketComment, call: Call) -> TicketKey:
        """Comment on a ticket; the desk cannot tell a repeat."""
        answer = await self.http.request("POST", f"{_path(params.key)}/comments", call=call, json=_json(params))
        return answer.parse(TicketKey)

    @action(effect=Effect.IDEMPOTENT, capability="ticket.close")
    async def close_ticket(self, params: TicketClose, call: Call) -> TicketStatus:
        """Close a ticket; closed for another reason before is a conflict."""
        answer = await self.http.request("POST", f"{_path(params.key)}/close", call=call, json=_json(params))
        return answer.parse(TicketStatus)

    @action(effect=Effect.READ, capability="ticket.find")
    async def find_tickets(self, params: TicketFind, call: Call) -> Tickets:
        """Find tickets whose key, title, description or labels hold all the words."""
        answer = await self.http.get("/desk/tickets", call=call, params=params.model_dump())
        found = answer.parse(Tickets)
        return Tickets(
            tickets=tuple(
                Ticket(key=t.key, title=t.title, status=t.status, url=self._whole(t.url)) for t in found.tickets
            )
        )

    def _whole(self, url: str) -> str:
        return f"{self.config.base_url}{url}"


def _path(key: str) -> str:
    return f"/desk/tickets/{path_segment(key)}"


def _json(params: BaseModel) -> dict[str, object]:
    """The fields that are set; a ticket's key stands in the path."""
    return params.model_dump(mode="json", exclude={"key"}, exclude_none=True)
