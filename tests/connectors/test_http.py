"""http: the escape hatch stays on its host, and values stay values."""

import json

import httpx
import pytest

from soar.errors import ConfigError, OutcomeUnknownError, RejectedError, RemoteFailureError
from soar.model.action import Impact

BASE = {"base_url": "https://api.example/v1"}


@pytest.fixture
def api(bench):
    return bench("http", BASE, {"T": "canary-token"}, lambda _: httpx.Response(200, json={"ok": True}))


async def test_get_returns_status_type_text_and_the_json_value(api):
    result = await api.do("get", {"path": "/things", "segments": ["a/b", "c d?"], "query": {"q": "x&y=z"}})
    assert result == {"status": 200, "content_type": "application/json", "text": '{"ok":true}', "body": {"ok": True}}
    assert api.sent[0].url.raw_path == b"/v1/things/a%2Fb/c%20d%3F?q=x%26y%3Dz"


async def test_what_is_no_json_comes_back_as_text_only(api):
    api.answer = lambda _: httpx.Response(200, text="plain", headers={"Content-Type": "text/plain"})
    result = await api.do("get", {"path": "/"})
    assert (result["text"], result["body"]) == ("plain", None)


@pytest.mark.parametrize("segment", ["..", ".", ""])
async def test_a_value_cannot_leave_its_segment(api, segment):
    with pytest.raises(RejectedError, match="URL path"):
        await api.do("get", {"path": "/things", "segments": [segment]})
    assert api.sent == []


@pytest.mark.parametrize("path", ["//evil.example", "/../x", "/a?b", "/a/%2e%2e/b"])
async def test_a_path_cannot_leave_the_base_url(api, path):
    with pytest.raises(RejectedError, match="was not sent"):
        await api.do("get", {"path": path})
    assert api.sent == []


async def test_request_sends_its_method_and_body(api):
    await api.do("request", {"path": "/things", "method": "PATCH", "body": {"a": [1]}})
    assert api.sent[0].method == "PATCH"
    assert json.loads(api.sent[0].content) == {"a": [1]}


def test_request_counts_as_destructive_for_policy(api):
    offers = {offer.spec.verb: offer.spec.impact for offer in api.registry.catalogue().offers}
    assert offers == {"get": Impact.READ, "request": Impact.DESTRUCTIVE}


async def test_a_broken_get_is_a_failure_and_a_broken_request_is_unknown(api):
    api.answer = lambda _: httpx.Response(500)
    with pytest.raises(RemoteFailureError):
        await api.do("get", {"path": "/"})
    with pytest.raises(OutcomeUnknownError):
        await api.do("request", {"path": "/"})


@pytest.mark.parametrize(
    ("more", "header", "value"),
    [
        ({"auth": "bearer"}, "authorization", "Bearer canary-token"),
        ({"auth": "basic", "user": "u"}, "authorization", "Basic dTpjYW5hcnktdG9rZW4="),
        ({"auth": "header", "header": "X-Key", "prefix": "k "}, "x-key", "k canary-token"),
    ],
)
async def test_each_way_to_authenticate(bench, more, header, value):
    config = BASE | {"secret": "secret://env/T"} | more
    api = bench("http", config, {"T": "canary-token"}, lambda _: httpx.Response(200))
    await api.do("get", {"path": "/"})
    assert api.sent[0].headers[header] == value


@pytest.mark.parametrize(
    "more", [{"auth": "bearer"}, {"secret": "secret://env/T"}, {"auth": "basic", "secret": "secret://env/T"}]
)
def test_an_incomplete_way_to_authenticate_is_a_config_error(bench, more):
    with pytest.raises(ConfigError, match=r"go together|needs user"):
        bench("http", BASE | more, {}, lambda _: httpx.Response(200))
