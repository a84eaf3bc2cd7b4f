"""The lab's chat room, pager and mailboxes."""

from __future__ import annotations

from soar.connector.base import Call, Result, action
from soar.connector.capabilities import (
    Email,
    EmailDelete,
    Emails,
    EmailsDeleted,
    EmailSearch,
    EmailSend,
    NotifySend,
    PageTrigger,
    Sent,
)
from soar.model.action import Effect, Risk
from soar_connectors.lab.base import LabConnector, keyed


class _Mails(Result):
    mails: tuple[Email, ...]


class _Gone(Result):
    deleted: tuple[str, ...]


class LabChat(LabConnector):
    """Telling people something. Only a page can be sent twice and arrive once."""

    name = "lab_chat"
    product = "Lab chat room"
    probe = "/chat/mails"

    @action(effect=Effect.UNSAFE, capability="notify.send")
    async def send_message(self, params: NotifySend, call: Call) -> Sent:
        """Say something in a channel."""
        answer = await self.http.request("POST", "/chat/messages", call=call, json=params.model_dump(mode="json"))
        return answer.parse(Sent)

    @action(effect=Effect.KEYED, capability="page.trigger")
    async def trigger_page(self, params: PageTrigger, call: Call) -> Sent:
        """Call whoever is on duty."""
        body = params.model_dump(mode="json")
        answer = await self.http.request("POST", "/chat/pages", call=call, json=body, headers=keyed(call))
        return answer.parse(Sent)

    @action(effect=Effect.UNSAFE, capability="email.send")
    async def send_email(self, params: EmailSend, call: Call) -> Sent:
        """Send a mail."""
        body = {"to": [params.to], "subject": params.subject, "text": params.text}
        answer = await self.http.request("POST", "/chat/mails", call=call, json=body)
        return answer.parse(Sent)

    @action(effect=Effect.READ, capability="email.search")
    async def search_email(self, params: EmailSearch, call: Call) -> Emails:
        """Find mails whose sender, subject or text holds all the words."""
        answer = await self.http.get("/chat/mails", call=call, params=params.model_dump())
        found = answer.parse(_Mails).mails
        return Emails(messages=found, count=len(found))

    @action(
        effect=Effect.IDEMPOTENT,
        risk=Risk.DESTRUCTIVE,
        capability="email.delete",
        react="RA4201",
        targets={"ids": "email"},
    )
    async def delete_email(self, params: EmailDelete, call: Call) -> EmailsDeleted:
        """Delete mails from every mailbox; what is gone already is not counted."""
        answer = await self.http.request("POST", "/chat/mails/delete", call=call, json=params.model_dump(mode="json"))
        return EmailsDeleted(deleted=len(answer.parse(_Gone).deleted))
