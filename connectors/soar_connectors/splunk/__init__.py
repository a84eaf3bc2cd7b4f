"""Splunk Enterprise and Splunk Cloud: search, and notable events of Enterprise Security."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from pydantic import Field

from soar.connector.base import Call, Connector, Result, action
from soar.connector.capabilities import SiemAlert, SiemRows, SiemSearch, SiemUpdateAlert
from soar.connector.client import Endpoint, HeaderAuth
from soar.connector.secret import Secret
from soar.connector.sinks import plain_text, quoted
from soar.errors import RejectedError
from soar.model.action import Effect
from soar.model.limits import Limits

_DOCS = "https://help.splunk.com/en/splunk-enterprise/leverage-rest-apis/rest-api-reference"
_PLACEHOLDER = re.compile(r"\$([a-z][a-z0-9_]*)\$")
# Commands that write, send or run something (after Splunk's own "SPL safeguards for risky commands"). `map` and
# `foreach` carry searches as text, in which others could hide.
_WRITES = re.compile(
    r"\|\s*(delete|outputlookup|outputcsv|outputtext|collect|mcollect|meventcollect|tscollect|summaryindex|sendemail"
    r"|sendalert|script|run|runshellscript|map|foreach|dump|crawl|createrss|stash|dbxoutput|dbxquery|makejson_file)\b",
    re.IGNORECASE,
)


class SplunkConfig(Endpoint):
    """A search head's management port, and a token for it."""

    token: Secret = Field(description="An authentication token of a user with the rights in the README.")
    token_kind: Literal["Bearer", "Splunk"] = Field(
        default="Bearer", description="Bearer for authentication tokens, Splunk for session keys."
    )


class Search(SiemSearch):
    """SPL, in which `$name$` stands for a value of `values`: put as a quoted literal, whatever it holds."""

    values: dict[str, str] = Field(
        default_factory=dict, description="What an alert brought; never write it into query."
    )


class UpdateNotable(SiemUpdateAlert):
    """`id` is the notable's event_id (rule UID)."""

    id: str = Field(pattern=r"^[A-Za-z0-9@_:.\-]{1,200}$")
    status: str = Field(pattern=r"^[0-9]{1,4}$|^[A-Za-z ]{1,40}$", description="A status number, or its usual word.")


STATUSES = {"unassigned": "0", "new": "1", "in progress": "2", "pending": "3", "resolved": "4", "closed": "5"}
"""Status numbers as Enterprise Security ships them; sites that changed theirs give the number."""


class _Message(Result):
    type: str
    text: str = ""


class _Rows(Result):
    results: tuple[dict[str, Any], ...] = ()
    messages: tuple[_Message, ...] = ()


class _Updated(Result):
    success: bool
    success_count: int = 0
    message: str = ""


class _Identity(Result):
    username: str
    roles: tuple[str, ...] = ()


class _Entry(Result):
    content: _Identity


class _Context(Result):
    entry: tuple[_Entry, ...] = Field(min_length=1)


class Splunk(Connector[SplunkConfig]):
    """One search head."""

    name: ClassVar[str] = "splunk"
    version: ClassVar[str] = "1.0.0"
    vendor: ClassVar[str] = "Splunk"
    product: ClassVar[str] = "Splunk Enterprise and Enterprise Security"
    product_versions: ClassVar[str] = "Enterprise 9 and 10; Enterprise Security 7 for notables"
    quality: ClassVar[str] = "bronze"
    # authorize.conf: a role that says nothing else may run three searches at once (srchJobsQuota).
    limits = Limits(concurrency=3)
    Config = SplunkConfig

    @classmethod
    def client_options(cls, config: SplunkConfig) -> dict[str, Any]:
        """The search head, with the token."""
        return config.client_options(auth=HeaderAuth("Authorization", config.token, f"{config.token_kind} "))

    async def test(self, call: Call) -> str:
        """Ask Splunk whom the token belongs to."""
        query = {"output_mode": "json"}
        answer = await self.http.get("/services/authentication/current-context", params=query, call=call)
        me = answer.parse(_Context).entry[0].content
        return f"known as {me.username}, roles {', '.join(me.roles) or 'none'}"

    @action(
        effect=Effect.READ,
        capability="siem.search",
        docs=f"{_DOCS}/search-endpoints/search-endpoint-descriptions",
    )
    async def search(self, params: Search, call: Call) -> SiemRows:
        """Run a search that only reads, and wait for its rows."""
        form = {
            "search": spl(params.query, params.values),
            "earliest_time": params.earliest,
            "latest_time": params.latest,
            "exec_mode": "oneshot",
            "output_mode": "json",
            "count": params.limit,
            "max_count": params.limit,
        }
        answer = await self.http.request("POST", "/services/search/jobs", call=call, form=form)
        found = answer.parse(_Rows)
        fatal = [each.text for each in found.messages if each.type == "FATAL"]
        if fatal:
            raise answer.declined(fatal[0])
        rows = found.results[: params.limit]
        return SiemRows(rows=rows, count=len(rows))

    @action(
        effect=Effect.IDEMPOTENT,  # the status is set, not moved; a repeat adds a second line to the review log
        capability="siem.update_alert",
        docs="https://docs.splunk.com/Documentation/ES/7.3.1/API/NotableEventAPIreference",
        targets={"id": "alert"},
    )
    async def update_notable(self, params: UpdateNotable, call: Call) -> SiemAlert:
        """Set the status of a notable event, with a comment."""
        status = STATUSES.get(params.status.strip().casefold(), params.status)
        if not status.isdigit():
            raise RejectedError(
                f"nothing was sent: {params.status!r} is none of {', '.join(STATUSES)}; give its number"
            )
        form = {"ruleUIDs": params.id, "status": status, "comment": plain_text(params.comment), "output_mode": "json"}
        answer = await self.http.request("POST", "/services/notable_update", call=call, form=form)
        updated = answer.parse(_Updated)
        if not updated.success or not updated.success_count:
            raise answer.declined(f"{params.id} was not updated: {updated.message}")
        return SiemAlert(id=params.id, status=params.status)


def spl(query: str, values: dict[str, str]) -> str:
    """The query with each `$name$` as a quoted literal; raises RejectedError for one that writes, or lacks a value."""
    if _WRITES.search(query):
        found = _WRITES.search(query)
        assert found is not None
        raise RejectedError(f"nothing was sent: the search command {found[1]!r} does more than read; remove it")
    missing = sorted({name for name in _PLACEHOLDER.findall(query) if name not in values})
    if missing:
        raise RejectedError(f"nothing was sent: the query names ${missing[0]}$, which values does not hold")
    text = _PLACEHOLDER.sub(lambda match: quoted(values[match[1]]), query.strip())
    return text if text.startswith("|") or re.match(r"search\b", text, re.IGNORECASE) else f"search {text}"
