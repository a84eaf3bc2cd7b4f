"""Splunk: searches only read, values stay values, and a notable is updated or the error says why not."""

import json
from urllib.parse import parse_qs

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soar.errors import InputError, OutcomeUnknownError, RejectedError, RemoteFailureError
from soar_connectors.splunk import spl

CONFIG = {"base_url": "https://splunk.example:8089", "token": "secret://env/SPLUNK"}


def replying(value, status=200):
    return lambda _: httpx.Response(status, content=json.dumps(value))


@pytest.fixture
def splunk(bench):
    return bench("splunk", CONFIG, {"SPLUNK": "canary-token"}, replying({"results": [{"host": "a"}, {"host": "b"}]}))


def form(request: httpx.Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.content.decode()).items()}


async def test_a_search_is_sent_once_and_its_rows_come_back(splunk):
    result = await splunk.do("search", {"query": "index=main", "earliest": "-1h", "limit": 1})
    assert result == {"rows": [{"host": "a"}], "count": 1}
    sent = form(splunk.sent[0])
    assert splunk.sent[0].url.path == "/services/search/jobs"
    assert splunk.sent[0].headers["authorization"] == "Bearer canary-token"
    assert (sent["search"], sent["earliest_time"], sent["exec_mode"]) == ("search index=main", "-1h", "oneshot")


@pytest.mark.parametrize("query", ["| tstats count", "search index=a", "SEARCH index=a"])
async def test_a_query_that_names_its_command_is_left_as_it_is(splunk, query):
    await splunk.do("search", {"query": query})
    assert form(splunk.sent[0])["search"] == query


@given(st.text())
def test_a_value_is_one_quoted_literal_whatever_it_holds(value):
    text = spl("index=a user=$user$ | head 1", {"user": value})
    assert text.startswith('search index=a user="')
    literal = text.removeprefix("search index=a user=").removesuffix(" | head 1")
    inner = literal[1:-1].replace("\\\\", "").replace('\\"', "")
    assert '"' not in inner
    assert not inner.endswith("\\")


def test_a_value_that_looks_like_a_placeholder_is_not_replaced_again():
    assert spl("a=$x$", {"x": "$y$", "y": "z"}) == 'search a="$y$"'


@pytest.mark.parametrize(
    "query",
    [
        "index=a | delete",
        "index=a |outputlookup x.csv",
        "a [search b | COLLECT index=c]",
        "| map search=x",
        "a|\tsendemail to=x",
    ],
)
async def test_a_search_that_does_more_than_read_is_refused(splunk, query):
    with pytest.raises(RejectedError, match="more than read"):
        await splunk.do("search", {"query": query})
    assert splunk.sent == []


async def test_a_placeholder_without_a_value_is_refused(splunk):
    with pytest.raises(RejectedError, match=r"\$user\$"):
        await splunk.do("search", {"query": "user=$user$"})


async def test_a_fatal_message_is_an_error_although_the_status_is_200(splunk):
    splunk.answer = replying({"results": [], "messages": [{"type": "FATAL", "text": "Unknown search command 'x'."}]})
    with pytest.raises(RejectedError, match="Unknown search command"):
        await splunk.do("search", {"query": "| x"})


async def test_a_search_that_breaks_is_a_failure_and_may_be_repeated(splunk):
    splunk.answer = replying({}, 500)
    with pytest.raises(RemoteFailureError):
        await splunk.do("search", {"query": "index=a"})


UPDATED = {"success": True, "success_count": 1, "message": "1 event updated successfully"}


@pytest.mark.parametrize(("status", "sent"), [("closed", "5"), ("In Progress", "2"), ("14", "14")])
async def test_a_notable_gets_its_status_by_word_or_number(splunk, status, sent):
    splunk.answer = replying(UPDATED)
    event = "6F3AC1B2-0001@@notable@@1d2e"
    result = await splunk.do("update_notable", {"id": event, "status": status, "comment": "seen\x1b[2J"})
    assert result == {"id": event, "status": status}
    assert form(splunk.sent[0]) == {
        "ruleUIDs": event,
        "status": sent,
        "comment": "seen\ufffd[2J",
        "output_mode": "json",
    }


async def test_an_unknown_status_word_is_refused_with_the_known_ones(splunk):
    with pytest.raises(RejectedError, match="unassigned, new, in progress"):
        await splunk.do("update_notable", {"id": "a@@b", "status": "done"})
    assert splunk.sent == []


@pytest.mark.parametrize("answer", [UPDATED | {"success": False}, UPDATED | {"success_count": 0}])
async def test_an_update_that_splunk_reports_as_failed_is_refused(splunk, answer):
    splunk.answer = replying(answer | {"message": "no such event"})
    with pytest.raises(RejectedError, match="no such event"):
        await splunk.do("update_notable", {"id": "a@@b", "status": "new"})


async def test_an_update_with_an_answer_of_another_shape_is_unknown(splunk):
    splunk.answer = replying(["what"])
    with pytest.raises(OutcomeUnknownError, match="not as documented"):
        await splunk.do("update_notable", {"id": "a@@b", "status": "new"})


@pytest.mark.parametrize("event", ["", "a b", "a,b", "a\n"])
def test_an_id_that_could_name_several_notables_is_refused(splunk, event):
    with pytest.raises(InputError, match="'id'"):
        splunk.registry.prepare("splunk", "update_notable", {"id": event, "status": "new"})


async def test_the_connection_test_says_as_whom(splunk):
    splunk.answer = replying({"entry": [{"content": {"username": "soar", "roles": ["soar_reader"]}}]})
    assert await splunk.registry.test("splunk") == "known as soar, roles soar_reader"
