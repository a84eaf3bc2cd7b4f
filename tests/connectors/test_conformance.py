"""What every connector keeps, whoever wrote it: one set of tests over all that are installed."""

from __future__ import annotations

import json
import logging
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

from soar.connector.base import BoundAction, actions_of
from soar.connector.capabilities import shortfalls
from soar.connector.loader import GROUP, Loader
from soar.errors import (
    AuthenticationError,
    ConnectorError,
    InputError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitedError,
    RejectedError,
    RemoteConflictError,
    RemoteFailureError,
    RemoteNotFoundError,
)
from soar.model.action import Effect, Risk

CANARY = 'canary/"5f1d"+d41d'
SECRETS = re.compile(r"token|password|passwd|secret|api_?key|credential", re.IGNORECASE)
NO_SECRETS = {"token_kind"}
HOSTILE = [
    '"}] OR 1=1 | delete -- <!channel> [~admin] {code}',
    "../../admin?x=1#y",
    "a\r\nX-Injected: 1\r\n\r\nGET /",
    "\x1b[2J\u202e\x00 naïve 日本 🔥",
    "$user$ ${{ vars }} {{ 7*7 }} ${jndi:ldap://x}",
]
# What a configuration needs beyond base_url and secrets, and what a value that must have a shape can look like.
CONFIGS: dict[str, dict[str, Any]] = {
    "http": {"auth": "bearer", "secret": "secret://env/CANARY"},
    "jira": {"email": "soar@example.com", "project": "SEC"},
}
SHAPED = {"key": "SEC-1", "path": "/things", "id": "a1", "status": "closed"}


def installed() -> dict[str, type[Any]]:
    """Every registered connector; one whose module does not exist is left out, any other failure to import is one."""
    found = {}
    for point in entry_points(group=GROUP):
        try:
            found[point.name] = point.load()
        except ModuleNotFoundError as failure:
            if not point.module.startswith(failure.name or "?"):
                raise
    return found


CONNECTORS = installed()
ACTIONS = [
    pytest.param(name, bound, id=bound.spec.name)
    for name, connector in CONNECTORS.items()
    for bound in actions_of(connector).values()
]
every_connector = pytest.mark.parametrize("name", CONNECTORS)
every_action = pytest.mark.parametrize(("name", "bound"), ACTIONS)


def config_of(name: str) -> dict[str, Any]:
    fields = CONNECTORS[name].Config.model_json_schema()["properties"]
    secrets = [each for each, schema in fields.items() if "secret://" in schema.get("pattern", "")]
    references = dict.fromkeys(secrets, "secret://env/CANARY")
    return {"base_url": "https://product.example/base", **references, **CONFIGS.get(name, {})}


def sample(schema: dict[str, Any], name: str, defs: dict[str, Any], text: str) -> Any:
    """A value that fits a JSON Schema; `text` wherever text may be anything."""
    schema = defs[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    schema = schema.get("anyOf", [schema])[0]
    if "$ref" in schema:
        return sample(schema, name, defs, text)
    plain = {"integer": schema.get("minimum", 1), "number": schema.get("minimum", 1), "boolean": True}
    match schema.get("type"):
        case "object":
            return {key: sample(value, key, defs, text) for key, value in schema.get("properties", {}).items()}
        case "array":
            return [sample(schema.get("items", {}), name, defs, text)]
        case kind if kind in plain:
            return plain[kind]
    shaped = SHAPED.get(name, text) if "pattern" in schema else text
    return schema.get("enum", [shaped])[0]


def params_of(bound: BoundAction, text: str = "value") -> dict[str, Any]:
    schema = bound.spec.params_schema
    params: dict[str, Any] = sample(schema, "", schema.get("$defs", {}), text)
    return params


def echoing(status: int):
    """Answers everything with its own request, secrets included."""

    def answer(request: httpx.Request) -> httpx.Response:
        seen = {"headers": dict(request.headers), "body": request.content.decode(errors="replace"), "plain": CANARY}
        return httpx.Response(status, json=seen, headers={"X-Echo": CANARY.encode().hex()})

    return answer


async def outcome(target: Any, bound: BoundAction, params: dict[str, Any] | None = None, **more: Any) -> Any:
    """The action's result, or the connector error that it ended with; anything else is a defect."""
    try:
        return await target.do(bound.spec.verb, params or params_of(bound), **more)
    except ConnectorError as failure:
        return failure


def broken_type(target: Any, bound: BoundAction) -> type[ConnectorError]:
    """What a broken exchange must be called: unknown once anything that may change something was sent."""
    only_read = bound.spec.effect is Effect.READ or all(sent.method == "GET" for sent in target.sent)
    return RemoteFailureError if only_read else OutcomeUnknownError


@pytest.fixture
def make(bench):
    def build(name: str, answer) -> Any:
        return bench(name, config_of(name), {"CANARY": CANARY}, answer)

    return build


@every_connector
def test_its_class_says_who_and_what_and_how_good(name):
    connector = CONNECTORS[name]
    assert connector.name == name
    assert re.fullmatch(r"\d+\.\d+\.\d+", connector.version)
    assert connector.vendor
    assert connector.product
    assert connector.quality in {"bronze", "silver", "gold"}
    assert Loader().load(name).info.digest


@every_connector
def test_its_readme_says_how_to_set_it_up_with_the_least_rights_and_how_good_it_is(name):
    module = entry_points(group=GROUP)[name].module
    folder = Path(__import__(module, fromlist=["_"]).__file__).parent
    text = (folder / "README.md").read_text(encoding="utf-8").lower()
    if CONNECTORS[name].vendor != "soar":  # the lab is ours, with one token for everything
        assert "set up" in text
        assert "least privilege" in text
    assert CONNECTORS[name].quality in text
    for verb in actions_of(CONNECTORS[name]):
        assert re.search(rf"\b{verb}`", text)


@every_action
def test_its_declaration_is_complete_and_consistent(name, bound):
    spec = bound.spec
    assert spec.summary.endswith(".")
    assert shortfalls(bound) == []
    assert (spec.effect is not Effect.READ) or (spec.risk is Risk.NONE)
    assert spec.docs or CONNECTORS[name].vendor == "soar"
    if spec.effect is Effect.VERIFIABLE:
        assert bound.shows is not None
        assert bound.shows.keys() <= bound.result.model_fields.keys()
    if spec.undo:
        taken_back = actions_of(CONNECTORS[name])[spec.undo]
        taken_back.params.model_validate(params_of(bound))


@every_connector
def test_its_secrets_are_references_and_a_plain_value_is_refused_unseen(name, bench):
    fields = CONNECTORS[name].Config.model_json_schema()["properties"]
    secret = {each for each, schema in fields.items() if "secret://" in json.dumps(schema)}
    assert {each for each in fields if SECRETS.search(each)} - NO_SECRETS <= secret
    for each in secret:
        with pytest.raises(InputError, match=each) as caught:
            bench(name, config_of(name) | {each: CANARY}, {}, echoing(200))
        assert CANARY not in str(caught.value)


@every_connector
def test_its_configuration_shows_references_only(name):
    config = CONNECTORS[name].Config.model_validate(config_of(name))
    assert "secret://env/CANARY" in config.model_dump_json()
    assert "secret://env/CANARY" in repr(config)


@every_action
@pytest.mark.parametrize("status", [200, 201, 302, 400, 401, 409, 429, 500])
async def test_a_secret_is_sent_and_shown_nowhere(name, bound, status, make, caplog):
    target = make(name, echoing(status))
    with structlog.testing.capture_logs() as events, caplog.at_level(logging.DEBUG):
        result = await outcome(target, bound)
    assert target.sent
    assert all("authorization" in sent.headers for sent in target.sent)
    trace = result
    shown = [repr(events), caplog.text, repr(target.registry.catalogue())]
    while trace is not None:
        shown += [repr(trace), str(trace)]
        trace = getattr(trace, "__cause__", None) or getattr(trace, "__context__", None)
    for spelling in (CANARY, json.dumps(CANARY)[1:-1], repr(CANARY)[1:-1]):
        assert not [each for each in shown if spelling in each]


@every_action
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RejectedError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, RemoteNotFoundError),
        (409, RemoteConflictError),
        (418, RejectedError),
        (429, RateLimitedError),
        (302, RejectedError),
    ],
)
async def test_a_refusal_keeps_its_name(name, bound, status, error, make):
    target = make(name, lambda _: httpx.Response(status, headers={"Retry-After": "7", "Location": "/x"}))
    result = await outcome(target, bound)
    assert type(result) is error
    if isinstance(result, RateLimitedError):
        assert result.retry_after_seconds == 7


@every_action
@pytest.mark.parametrize("status", [500, 502, 504])
async def test_a_server_error_is_unknown_unless_only_read(name, bound, status, make):
    target = make(name, lambda _: httpx.Response(status))
    assert type(await outcome(target, bound)) is broken_type(target, bound)


@every_action
@pytest.mark.parametrize(
    "failure", [httpx.ReadTimeout("late"), httpx.ReadError("reset"), httpx.RemoteProtocolError("?")]
)
async def test_a_broken_connection_is_unknown_unless_only_read(name, bound, failure, make):
    def fail(_):
        raise failure

    target = make(name, fail)
    assert type(await outcome(target, bound)) is broken_type(target, bound)


@every_action
async def test_a_connection_that_never_was_is_not_sent(name, bound, make):
    def refuse(_):
        raise httpx.ConnectError("refused")

    assert type(await outcome(make(name, refuse), bound)) is NotSentError


@every_action
@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[]", b'"text"', b'{"a":', b"{}", b"\xff\xfe"])
async def test_a_success_that_makes_no_sense_is_never_taken_for_a_refusal(name, bound, body, make):
    """Where the action needs nothing of the body it may succeed; it must not raise anything that says "not done"."""
    target = make(name, lambda _: httpx.Response(200, content=body, headers={"Content-Type": "application/json"}))
    result = await outcome(target, bound)
    if isinstance(result, ConnectorError) and not isinstance(result, RemoteNotFoundError):
        assert type(result) is broken_type(target, bound)


@every_action
async def test_a_missing_secret_sends_nothing_and_is_named(name, bound, bench):
    target = bench(name, config_of(name), {}, echoing(200))
    result = await outcome(target, bound)
    assert type(result) is NotSentError
    assert "secret://env/CANARY" in str(result)
    assert target.sent == []


@every_action
async def test_a_keyed_action_sends_its_key(name, bound, make):
    if bound.spec.effect is not Effect.KEYED:
        return
    target = make(name, echoing(200))
    for key in ("key-one", "key-one", "key-two"):
        await outcome(target, bound, key=key)
    carried = [repr((sent.headers, sent.content, sent.url)) for sent in target.sent]
    assert ["key-one" in each for each in carried] == [True, True, False]
    assert "key-two" in carried[2]


@every_action
@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_stays_a_value(name, bound, text, make):
    """It reaches no other host or path, breaks no header, body or form, and ends in no defect."""
    plain, target = make(name, echoing(400)), make(name, echoing(400))
    await outcome(plain, bound)
    try:
        result = await outcome(target, bound, params_of(bound, text))
    except InputError:
        return  # refused while the request was prepared
    assert isinstance(result, ConnectorError)
    assert "defect" not in str(result)
    assert str(result).isprintable()
    assert len(target.sent) <= len(plain.sent)
    for sent, usual in zip(target.sent, plain.sent, strict=False):
        assert sent.url.host == "product.example"
        assert sent.url.path.startswith("/base/")
        assert sent.url.raw_path.split(b"?")[0].count(b"/") == usual.url.raw_path.split(b"?")[0].count(b"/")
        assert sent.headers.keys() == usual.headers.keys()
        assert "x-injected" not in sent.headers
        if "json" in sent.headers.get("content-type", ""):
            assert same_shape(json.loads(sent.content), json.loads(usual.content))


def same_shape(one: Any, other: Any) -> bool:
    """Whether two JSON values have the same keys at the top; text may become more or fewer paragraphs."""
    return type(one) is type(other) and (not isinstance(one, dict) or one.keys() == other.keys())


@every_connector
async def test_its_connection_test_only_reads_and_says_why_not(name, make):
    target = make(name, echoing(401))
    with pytest.raises(AuthenticationError, match="check the instance's secret"):
        await target.registry.test(name)
    assert [sent.method for sent in target.sent] == ["GET"]
