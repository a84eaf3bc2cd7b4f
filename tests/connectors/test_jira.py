"""Jira: every request is one that Atlassian's OpenAPI document allows, and means what its action says."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from werkzeug.datastructures import Headers, ImmutableMultiDict

from soar.errors import OutcomeUnknownError, RejectedError, RemoteFailureError, RemoteNotFoundError

SITE = "https://your-domain.atlassian.net"
CONFIG = {
    "base_url": SITE,
    "email": "soar@example.com",
    "api_token": "secret://env/JIRA",
    "project": "SEC",
    "priorities": {"high": "High"},
}
DONE = {"name": "Done", "statusCategory": {"key": "done"}}
OPEN = {"name": "To Do", "statusCategory": {"key": "new"}}


class OpenApiRequest:
    """An httpx request as openapi-core reads one."""

    def __init__(self, request: httpx.Request) -> None:
        self.host_url = SITE
        self.path = request.url.path
        self.method = request.method.lower()
        self.body = request.content or None
        self.content_type = request.headers.get("content-type", "application/json")
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(request.url.params.multi_items()), header=Headers(request.headers.multi_items())
        )


@pytest.fixture(scope="session")
def specification(shared_data: Path) -> OpenAPI:
    text = (shared_data / "specs" / "jira-cloud-v3.openapi3.json").read_text(encoding="utf-8")
    return OpenAPI.from_dict(json.loads(text), config=Config(spec_validator_cls=None))


class Site:
    """A Jira site with one issue, SEC-1."""

    def __init__(self) -> None:
        self.status = OPEN
        self.labels: dict[str, list[str]] = {"SEC-1": []}
        self.comments: list[dict[str, Any]] = []
        self.screen: dict[str, Any] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/rest/api/3")
        body = json.loads(request.content) if request.content else {}
        status, value = self.answer(request.method, path, body)
        return httpx.Response(status, content=json.dumps(value) if value is not None else b"")

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        answer: tuple[int, Any] = 404, {"errorMessages": ["Issue does not exist"]}
        match method, path:
            case "GET", "/myself":
                answer = 200, {"accountId": "5b10", "displayName": "Soar\u202eBot"}
            case "POST", "/issue":
                key = f"SEC-{len(self.labels) + 1}"
                self.labels[key] = body["fields"]["labels"]
                answer = 201, {"id": "1", "key": key, "self": f"{SITE}{path}/1"}
            case "POST", "/search/jql":
                hits = [key for key, labels in self.labels.items() if any(each in body["jql"] for each in labels)]
                hits = hits or (["SEC-1"] if "text ~" in body["jql"] else [])
                answer = 200, {"issues": [self.issue(key) for key in hits], "isLast": True}
            case "PUT", "/issue/SEC-1":
                answer = 204, None
            case "GET", "/issue/SEC-1":
                answer = 200, self.issue("SEC-1")
            case "GET", "/issue/SEC-1/transitions":
                ways = [{"id": "31", "name": "Finish", "to": DONE, "fields": self.screen}]
                answer = 200, {"transitions": ways if self.status is OPEN else []}
            case "POST", "/issue/SEC-1/transitions":
                self.status = DONE
                answer = 204, None
            case "POST", "/issue/SEC-1/comment":
                self.comments.append(body)
                answer = 201, {"id": "10", **body}
            case "GET", "/issue/SEC-1/comment":
                answer = 200, {"comments": self.comments, "total": len(self.comments)}
        return answer

    def issue(self, key: str) -> dict[str, Any]:
        return {"id": "1", "key": key, "fields": {"summary": "A ticket", "status": self.status}}


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def jira(bench, site):
    return bench("jira", CONFIG, {"JIRA": "canary-token"}, site)


HOSTILE = '"}] OR project = X -- <!channel> [~admin] {code} \u202e\x1b[2J\nnaïve 日本'
EVERY_ACTION = [
    ("create", {"title": HOSTILE, "description": HOSTILE, "severity": "high", "labels": ["two words", HOSTILE]}),
    ("create", {"title": "bare"}),
    ("find_created", {"title": HOSTILE}),
    ("update", {"key": "SEC-1", "title": HOSTILE, "description": HOSTILE, "severity": "high", "status": "done"}),
    ("comment", {"key": "SEC-1", "text": HOSTILE}),
    ("find_comment", {"key": "SEC-1", "text": HOSTILE}),
    ("close", {"key": "SEC-1"}),
    ("find", {"query": HOSTILE}),
]


@pytest.mark.parametrize(("verb", "params"), EVERY_ACTION)
async def test_every_request_is_one_that_the_vendors_document_allows(jira, site, specification, verb, params):
    site.screen = {"resolution": {"required": True, "allowedValues": [{"name": "Done"}]}}
    try:
        await jira.do(verb, params)
    except RemoteNotFoundError:
        assert verb.startswith("find_")
    assert jira.sent
    for request in jira.sent:
        specification.validate_request(OpenApiRequest(request))


async def test_the_connection_test_is_allowed_too_and_says_as_whom(jira, specification):
    assert await jira.registry.test("jira") == "known as Soar Bot (5b10)"
    specification.validate_request(OpenApiRequest(jira.sent[0]))


def body(request: httpx.Request) -> Any:
    return json.loads(request.content)


async def test_a_created_issue_carries_plain_text_labels_and_priority(jira):
    result = await jira.do("create", EVERY_ACTION[0][1])
    assert result == {"key": "SEC-2", "url": f"{SITE}/browse/SEC-2"}
    fields = body(jira.sent[0])["fields"]
    assert fields["project"] == {"key": "SEC"}
    assert fields["priority"] == {"name": "High"}
    assert all(
        node["type"] == "text" and "marks" not in node
        for p in fields["description"]["content"]
        for node in p["content"]
    )
    assert all(" " not in label for label in fields["labels"])
    assert fields["summary"].isprintable() or "\ufffd" in fields["summary"]


async def test_a_created_issue_is_found_again_by_its_key_and_by_no_other(jira):
    """The read-back of `create`: Jira has no idempotency key."""
    made = await jira.do("create", {"title": "t"}, key="run-1/0")
    assert await jira.do("find_created", {"title": "t"}, key="run-1/0") == made
    with pytest.raises(RemoteNotFoundError, match="soar-"):
        await jira.do("find_created", {"title": "t"}, key="run-1/1")


async def test_a_comment_is_found_again_by_its_key_and_by_no_other(jira):
    await jira.do("comment", {"key": "SEC-1", "text": "t"}, key="run-1/0")
    assert await jira.do("find_comment", {"key": "SEC-1", "text": "t"}, key="run-1/0") == {"key": "SEC-1"}
    with pytest.raises(RemoteNotFoundError):
        await jira.do("find_comment", {"key": "SEC-1", "text": "t"}, key="run-1/1")


async def test_closing_takes_the_way_to_done_and_closing_again_changes_nothing(jira, site):
    assert await jira.do("close", {"key": "SEC-1"}) == {"key": "SEC-1", "status": "Done"}
    assert body(jira.sent[-1]) == {"transition": {"id": "31"}}
    before = len(jira.sent)
    assert await jira.do("close", {"key": "SEC-1"}) == {"key": "SEC-1", "status": "Done"}
    assert [request.method for request in jira.sent[before:]] == ["GET"]


@pytest.mark.parametrize(
    ("wanted", "required", "sent"),
    [("won't do", False, "Won't Do"), ("resolved", False, None), ("resolved", True, "Fixed")],
)
async def test_a_resolution_is_one_that_the_screen_offers(jira, site, wanted, required, sent):
    names = [{"name": "Fixed"}, {"name": "Won't Do"}]
    site.screen = {"resolution": {"required": required, "allowedValues": names}}
    await jira.do("close", {"key": "SEC-1", "resolution": wanted})
    assert body(jira.sent[-1]).get("fields") == ({"resolution": {"name": sent}} if sent else None)


async def test_an_issue_without_a_way_to_done_is_refused_and_named(jira, site):
    site.status = {"name": "Blocked", "statusCategory": {"key": "indeterminate"}}
    with pytest.raises(RejectedError, match=r"SEC-1: .*'Blocked'"):
        await jira.do("close", {"key": "SEC-1"})
    with pytest.raises(RejectedError, match="'Nirvana' cannot be reached"):
        await jira.do("update", {"key": "SEC-1", "status": "Nirvana"})


async def test_words_to_find_cannot_become_jql_or_search_operators(jira):
    await jira.do("find", {"query": '" OR project = HR ORDER BY x -- * a:b \\'})
    assert (
        body(jira.sent[0])["jql"] == 'project = "SEC" AND text ~ "OR project HR ORDER BY x a b" ORDER BY created DESC'
    )
    with pytest.raises(RejectedError, match="no word"):
        await jira.do("find", {"query": '"*"'})


@pytest.mark.parametrize("key", ["../myself", "SEC-1/comment", "..", "sec-1", "SEC-1?x=1", ""])
def test_a_key_that_is_none_never_reaches_a_path(jira, key):
    for verb, more in (("close", {}), ("comment", {"text": "t"}), ("update", {})):
        with pytest.raises(Exception, match="'key'"):
            jira.registry.prepare("jira", verb, {"key": key, **more})


async def test_a_failure_while_only_looking_is_not_an_unknown_outcome(jira, site):
    """`close` reads first; when that read fails, nothing was changed and it may be tried again."""
    jira.answer = lambda _: httpx.Response(502)
    with pytest.raises(RemoteFailureError):
        await jira.do("close", {"key": "SEC-1"})
    jira.answer = lambda sent: httpx.Response(502) if sent.method == "POST" else site(sent)
    with pytest.raises(OutcomeUnknownError):
        await jira.do("close", {"key": "SEC-1"})
