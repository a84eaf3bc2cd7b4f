"""Jira Cloud, REST API v3: tickets."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from soar.connector.base import Call, Connector, action
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
from soar.connector.client import BasicAuth, Endpoint
from soar.connector.secret import Secret
from soar.connector.sinks import jira_adf, one_line, path_segment, quoted
from soar.errors import RejectedError, RemoteNotFoundError
from soar.model.action import Effect
from soar.model.alert import Severity
from soar_connectors.jira import wire

API = "/rest/api/3"
_DOCS = "https://developer.atlassian.com/cloud/jira/platform/rest/v3"
_LUCENE = re.compile(r"""[+\-&|!(){}\[\]^"~*?\\:/<>=]""")

IssueKey = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*-[1-9][0-9]*$")]


class JiraConfig(Endpoint):
    """A site, an account on it, and the project that tickets go to."""

    email: str = Field(min_length=3, description="The account's e-mail address.")
    api_token: Secret = Field(description="The account's API token.")
    project: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$", description="Key of the project for new tickets.")
    issue_type: str = "Task"
    priorities: dict[Severity, str] = Field(
        default_factory=dict, description="Jira's priority name for each severity; none is set for those left out."
    )


class Update(TicketUpdate):
    """What changes on an issue."""

    key: IssueKey


class Comment(TicketComment):
    """A comment on an issue."""

    key: IssueKey


class Close(TicketClose):
    """An issue to close; `resolution` is sent where the project's screen asks for one."""

    key: IssueKey


class Jira(Connector[JiraConfig]):
    """Tickets are issues of one project."""

    name: ClassVar[str] = "jira"
    version: ClassVar[str] = "1.0.0"
    vendor: ClassVar[str] = "Atlassian"
    product: ClassVar[str] = "Jira Cloud"
    product_versions: ClassVar[str] = "REST API v3"
    quality: ClassVar[str] = "silver"
    Config = JiraConfig

    @classmethod
    def client_options(cls, config: JiraConfig) -> dict[str, Any]:
        """The site, with the account's e-mail address and token."""
        return config.client_options(auth=BasicAuth(config.email, config.api_token))

    async def test(self, call: Call) -> str:
        """Ask Jira whom the token belongs to."""
        me = (await self.http.get(f"{API}/myself", call=call)).parse(wire.Myself)
        return f"known as {me.display_name} ({me.account_id})"

    @action(
        effect=Effect.VERIFIABLE,
        capability="ticket.create",
        verify="find_created",
        shows={},
        docs=f"{_DOCS}/api-group-issues/#api-rest-api-3-issue-post",
    )
    async def create(self, params: TicketCreate, call: Call) -> TicketCreated:
        """Open an issue, labelled so that it can be found again."""
        fields: dict[str, Any] = {
            "project": {"key": self.config.project},
            "issuetype": {"name": self.config.issue_type},
            "summary": one_line(params.title),
            "description": jira_adf(params.description),
            "labels": [*(re.sub(r"\s+", "-", one_line(each)) for each in params.labels), own_label(call)],
            **self._priority(params.severity),
        }
        answer = await self.http.request("POST", f"{API}/issue", call=call, json={"fields": fields})
        return self._created(answer.parse(wire.Created).key)

    @action(effect=Effect.READ, docs=f"{_DOCS}/api-group-issue-search/#api-rest-api-3-search-jql-post")
    async def find_created(self, params: TicketCreate, call: Call) -> TicketCreated:  # noqa: ARG002 - as `create`
        """Find the issue that `create` opened under the same idempotency key.

        Raises RemoteNotFoundError where there is none. Jira's search index lags its writes by seconds, so that
        is proof only later.
        """
        jql = f"project = {quoted(self.config.project)} AND labels = {quoted(own_label(call))} ORDER BY created ASC"
        issues = await self._search(jql, limit=1, call=call)
        if not issues:
            raise RemoteNotFoundError(f"{self.http.instance}: no issue has the label {own_label(call)}")
        return self._created(issues[0].key)

    @action(
        effect=Effect.IDEMPOTENT,
        capability="ticket.update",
        docs=f"{_DOCS}/api-group-issues/#api-rest-api-3-issue-issueidorkey-put",
    )
    async def update(self, params: Update, call: Call) -> TicketKey:
        """Change an issue's summary, description, priority or status."""
        fields: dict[str, Any] = {}
        if params.title is not None:
            fields["summary"] = one_line(params.title)
        if params.description is not None:
            fields["description"] = jira_adf(params.description)
        if params.severity is not None:
            fields |= self._priority(params.severity)
        if fields:
            await self.http.request("PUT", _issue(params.key), call=call, json={"fields": fields})
        if params.status is not None:
            await self._move_to(params.key, params.status, call)
        return TicketKey(key=params.key)

    @action(
        effect=Effect.VERIFIABLE,
        capability="ticket.comment",
        verify="find_comment",
        shows={},
        docs=f"{_DOCS}/api-group-issue-comments/#api-rest-api-3-issue-issueidorkey-comment-post",
    )
    async def comment(self, params: Comment, call: Call) -> TicketKey:
        """Comment on an issue; the comment carries our key as an entity property, so that it can be found again."""
        mark = {"key": wire.MARK, "value": {"key": own_label(call)}}
        body = {"body": jira_adf(params.text), "properties": [mark]}
        await self.http.request("POST", f"{_issue(params.key)}/comment", call=call, json=body)
        return TicketKey(key=params.key)

    @action(
        effect=Effect.READ,
        docs=f"{_DOCS}/api-group-issue-comments/#api-rest-api-3-issue-issueidorkey-comment-get",
    )
    async def find_comment(self, params: Comment, call: Call) -> TicketKey:
        """Find the comment that `comment` wrote under the same idempotency key.

        Raises RemoteNotFoundError where none of the newest 100 is it.
        """
        query = {"orderBy": "-created", "maxResults": 100, "expand": "properties"}
        page = (await self.http.get(f"{_issue(params.key)}/comment", params=query, call=call)).parse(wire.Comments)
        if not any(each.bears(own_label(call)) for each in page.comments):
            raise RemoteNotFoundError(f"{self.http.instance}: no comment on {params.key} bears {own_label(call)}")
        return TicketKey(key=params.key)

    @action(
        effect=Effect.IDEMPOTENT,
        capability="ticket.close",
        docs=f"{_DOCS}/api-group-issues/#api-rest-api-3-issue-issueidorkey-transitions-post",
    )
    async def close(self, params: Close, call: Call) -> TicketStatus:
        """Move an issue to a status of the category Done; one that is there already stays as it is."""
        status = await self._status(params.key, call)
        if status.is_done:
            return TicketStatus(key=params.key, status=status.name)
        ways = [each for each in await self._transitions(params.key, call) if each.to.is_done]
        if not ways:
            raise RejectedError(f"{params.key}: nothing leads from {status.name!r} to a done status; see its workflow")
        await self._take(params.key, ways[0], resolution=params.resolution, call=call)
        return TicketStatus(key=params.key, status=ways[0].to.name)

    @action(
        effect=Effect.READ,
        capability="ticket.find",
        docs=f"{_DOCS}/api-group-issue-search/#api-rest-api-3-search-jql-post",
    )
    async def find(self, params: TicketFind, call: Call) -> Tickets:
        """Find issues of the project that contain all the words, newest first."""
        words = " ".join(_LUCENE.sub(" ", params.query).split())
        if not words:
            raise RejectedError(f"nothing was sent: {params.query!r} holds no word to search for")
        jql = f"project = {quoted(self.config.project)} AND text ~ {quoted(words)} ORDER BY created DESC"
        issues = await self._search(jql, limit=params.limit, call=call)
        return Tickets(tickets=tuple(self._ticket(each) for each in issues))

    async def _search(self, jql: str, *, limit: int, call: Call) -> tuple[wire.Issue, ...]:
        body = {"jql": jql, "maxResults": limit, "fields": ["summary", "status"]}
        answer = await self.http.request("POST", f"{API}/search/jql", call=call.reading(), json=body)
        return answer.parse(wire.Issues).issues

    async def _status(self, key: str, call: Call) -> wire.Status:
        answer = await self.http.get(_issue(key), params={"fields": "summary,status"}, call=call)
        return answer.parse(wire.Issue).fields.status

    async def _transitions(self, key: str, call: Call) -> tuple[wire.Transition, ...]:
        path = f"{_issue(key)}/transitions"
        answer = await self.http.get(path, params={"expand": "transitions.fields"}, call=call)
        return answer.parse(wire.Transitions).transitions

    async def _move_to(self, key: str, status: str, call: Call) -> None:
        now = await self._status(key, call)
        if now.name.casefold() == status.casefold():
            return
        ways = await self._transitions(key, call)
        fits = [each for each in ways if each.to.name.casefold() == status.casefold()]
        if not fits:
            known = ", ".join(sorted({each.to.name for each in ways})) or "none"
            raise RejectedError(f"{key}: {status!r} cannot be reached from {now.name!r}; reachable: {known}")
        await self._take(key, fits[0], resolution=None, call=call)

    async def _take(self, key: str, way: wire.Transition, *, resolution: str | None, call: Call) -> None:
        body: dict[str, Any] = {"transition": {"id": way.id}}
        chosen = way.resolution_for(resolution) if resolution else None
        if chosen:
            body["fields"] = {"resolution": {"name": chosen}}
        await self.http.request("POST", f"{_issue(key)}/transitions", call=call, json=body)

    def _priority(self, severity: Severity) -> dict[str, Any]:
        name = self.config.priorities.get(severity)
        return {"priority": {"name": name}} if name else {}

    def _created(self, key: str) -> TicketCreated:
        return TicketCreated(key=key, url=f"{self.http.base_url}/browse/{path_segment(key)}")

    def _ticket(self, issue: wire.Issue) -> Ticket:
        url = self._created(issue.key).url
        return Ticket(key=issue.key, title=issue.fields.summary, status=issue.fields.status.name, url=url)


def own_label(call: Call) -> str:
    """The label that marks what one call made: Jira has no idempotency key, so we leave our own."""
    return f"soar-{hashlib.sha256(call.idempotency_key.encode()).hexdigest()[:32]}"


def _issue(key: str) -> str:
    return f"{API}/issue/{path_segment(key)}"
