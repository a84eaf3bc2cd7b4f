"""The chat room, with its pager and its mailbox: everything that tells a person something."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from soar.lab.exchange import Answer, System, route
from soar.model.base import Frozen, to_rfc3339


class NewMessage(Frozen):
    """A message to a channel."""

    channel: str = Field(min_length=1)
    text: str = Field(min_length=1)
    severity: str = "informational"


class NewPage(Frozen):
    """A call to whoever is on duty."""

    summary: str = Field(min_length=1)
    severity: str
    dedup_key: str = ""


class NewMail(Frozen):
    """A mail to send."""

    to: tuple[str, ...] = Field(min_length=1)
    subject: str
    text: str


class Search(Frozen):
    """Mails whose sender, subject or text holds all the words; no words: all of them."""

    query: str = ""
    limit: int = Field(default=50, ge=1, le=1000)


class Names(Frozen):
    """Mails by id."""

    ids: tuple[str, ...]


class Message(NewMessage):
    """A message as it stands in the channel."""

    id: str
    at: str


class Page(NewPage):
    """A page as it was sent."""

    id: str
    at: str


class Mail(NewMail):
    """A mail in a mailbox of the range."""

    id: str
    sender: str


SEED = (
    Mail(
        id="mail-1",
        sender="it-support@login-verify.test",
        to=("alice@range.test",),
        subject="Your password expires today",
        text="Keep your password: http://login-verify.test/keep",
    ),
    Mail(
        id="mail-2",
        sender="it-support@login-verify.test",
        to=("bob@range.test",),
        subject="Your password expires today",
        text="Keep your password: http://login-verify.test/keep",
    ),
    Mail(
        id="mail-3",
        sender="carol@range.test",
        to=("everybody@range.test",),
        subject="Maintenance on Sunday",
        text="The web shop is down from 06:00 to 07:00.",
    ),
)


class Chat(System):
    """A message and a mail are sent as often as they are asked for; a page is keyed; deleting is idempotent."""

    name: ClassVar[str] = "chat"

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []
        self.pages: list[Page] = []
        self.mails = {mail.id: mail for mail in SEED}
        self._last_mail = len(SEED)

    def snapshot(self) -> dict[str, Any]:
        """Messages, pages and mails, oldest first."""
        return {
            "messages": [message.model_dump() for message in self.messages],
            "pages": [page.model_dump() for page in self.pages],
            "mails": [mail.model_dump(mode="json") for mail in self.mails.values()],
        }

    @route("POST", "/messages", takes=NewMessage)
    def post(self, given: NewMessage) -> Answer:
        """Say something in a channel, each time anew."""
        message = Message(id=f"msg-{len(self.messages) + 1}", at=to_rfc3339(self.now), **given.model_dump())
        self.messages.append(message)
        return Answer(status=201, body=message.model_dump(), effect=f"posted {message.id} to {message.channel}")

    @route("POST", "/pages", takes=NewPage, keyed=True)
    def page(self, given: NewPage) -> Answer:
        """Call whoever is on duty; a `dedup_key` that was paged for already calls nobody again."""
        for earlier in self.pages:
            if given.dedup_key and earlier.dedup_key == given.dedup_key:
                return Answer(body=earlier.model_dump())
        page = Page(id=f"page-{len(self.pages) + 1}", at=to_rfc3339(self.now), **given.model_dump())
        self.pages.append(page)
        return Answer(status=201, body=page.model_dump(), effect=f"paged {page.id}")

    @route("POST", "/mails", takes=NewMail)
    def mail(self, given: NewMail) -> Answer:
        """Send a mail, each time anew."""
        self._last_mail += 1
        mail = Mail(id=f"mail-{self._last_mail}", sender="soar@range.test", **given.model_dump())
        self.mails[mail.id] = mail
        return Answer(status=201, body=mail.model_dump(mode="json"), effect=f"mailed {mail.id} to {', '.join(mail.to)}")

    @route("GET", "/mails", takes=Search)
    def find(self, given: Search) -> Answer:
        """Mails in all mailboxes of the range."""
        words = given.query.casefold().split()
        hits = [
            m for m in self.mails.values() if all(w in f"{m.sender} {m.subject} {m.text}".casefold() for w in words)
        ]
        return Answer(body={"mails": [m.model_dump(mode="json") for m in hits[: given.limit]], "total": len(hits)})

    @route("POST", "/mails/delete", takes=Names)
    def delete(self, given: Names) -> Answer:
        """Delete mails for good; what is gone already is not counted."""
        gone = [name for name in dict.fromkeys(given.ids) if self.mails.pop(name, None)]
        return Answer(body={"deleted": gone}, effect=f"deleted {', '.join(gone)}" if gone else None)
