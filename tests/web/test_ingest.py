"""A delivery over HTTP: durable before it is answered, counted whole, bounded, and recognised when it comes again."""

import asyncio
import json

import httpx
import pytest

from soar.errors import StoreUnavailableError
from soar.model.alert import Outcome
from soar.web.ingest import MAX_DELIVERIES, MAX_LINES, MAX_LISTED

from .served import MAX_BODY_BYTES, Api, bearer


async def send(client: httpx.AsyncClient, content: object, url: str = "/ingest/edr", **headers: str) -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return await client.post(
        url, headers=bearer(**{name.replace("_", "-"): v for name, v in headers.items()}), content=body
    )


def ndjson(*lines: object) -> bytes:
    return b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)


async def test_what_was_answered_202_is_in_the_store(api: Api, client: httpx.AsyncClient):
    response = await send(client, {"id": 1})
    assert response.status_code == 202
    answer = response.json()
    assert (answer["accepted"], answer["redelivered"], answer["dead_letters"]) == (1, 0, [])
    [alert] = answer["alerts"]
    assert alert == {"id": alert["id"], "outcome": "no_match", "runs": []}
    row = await api.store.alert_row(alert["id"])
    assert row is not None
    assert row.coordinates == f"edr/{answer['delivery']}/0/1"


async def test_an_array_is_one_record_and_each_element_an_alert(api: Api, client: httpx.AsyncClient):
    answer = (await send(client, [{"id": 1}, {"id": 2}])).json()
    assert (answer["accepted"], len(answer["alerts"]), len(api.records)) == (1, 2, 1)


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/cloudevents+json"]
)
async def test_json_by_other_names_is_taken(client: httpx.AsyncClient, kind):
    assert (await send(client, {"id": 1}, Content_Type=kind)).status_code == 202


async def test_ndjson_is_a_record_per_line_with_the_line_as_offset(api: Api, client: httpx.AsyncClient):
    body = ndjson({"id": 1}, b"\n", b"not json\r\n", b"   \n", {"id": 2}) + b'{"id": 3}'
    answer = (await send(client, body, Content_Type="application/x-ndjson")).json()
    assert (answer["accepted"], answer["counts"]) == (4, {"alerts": 3, "dead_letters": 1})
    assert [record.offset for record in api.records] == [1, 3, 5, 6]
    [dead] = answer["dead_letters"]
    assert dead == {"record": f"edr/{answer['delivery']}/0/3", "reason": "not_json: is no JSON"}


async def test_what_is_no_alert_is_kept_as_a_dead_letter_and_said(api: Api, client: httpx.AsyncClient):
    response = await send(client, b"{broken")
    assert (response.status_code, response.json()["counts"]) == (202, {"alerts": 0, "dead_letters": 1})
    [letter] = await api.store.dead_letters(limit=10)
    assert letter.record.value == b"{broken"


async def test_lists_in_the_answer_are_cut_and_counts_are_not(client: httpx.AsyncClient):
    lines = ndjson(*({"id": number} for number in range(MAX_LISTED + 1)), *[b"x\n"] * (MAX_LISTED + 2))
    answer = (await send(client, lines, Content_Type="application/x-ndjson")).json()
    assert answer["counts"] == {"alerts": MAX_LISTED + 1, "dead_letters": MAX_LISTED + 2}
    assert (len(answer["alerts"]), len(answer["dead_letters"])) == (MAX_LISTED, MAX_LISTED)


async def test_a_delivery_sent_again_under_its_key_is_recognised(api: Api, client: httpx.AsyncClient):
    first = (await send(client, [{"id": 1}, {"id": 2}], Idempotency_Key="abc")).json()
    again = (await send(client, [{"id": 1}, {"id": 2}], Idempotency_Key="abc")).json()
    assert again["delivery"] == first["delivery"]
    assert (again["accepted"], again["redelivered"], again["alerts"]) == (1, 1, [])
    assert len(await api.store.alerts()) == 2


async def test_other_content_under_a_used_key_is_not_lost(api: Api, client: httpx.AsyncClient):
    """A sender with one constant key, or with a stolen one, hides no alert."""
    await send(client, {"id": 1}, Idempotency_Key="abc")
    answer = (await send(client, {"id": 2}, Idempotency_Key="abc")).json()
    assert (answer["redelivered"], len(answer["alerts"])) == (0, 1)
    assert len(await api.store.alerts()) == 2


async def test_without_a_key_a_repeated_alert_is_recorded_as_a_duplicate(client: httpx.AsyncClient):
    await send(client, {"id": 1})
    answer = (await send(client, {"id": 1})).json()
    assert [alert["outcome"] for alert in answer["alerts"]] == [Outcome.DUPLICATE]


async def test_no_key_can_claim_the_coordinates_of_another_door(api: Api, client: httpx.AsyncClient):
    """A Kafka record is `source/topic@cluster/partition/offset`, a line of a file `file/<digest>/0/line`."""
    await send(client, {"id": 1}, Idempotency_Key="alerts@cluster")
    assert api.records[0].topic.startswith("key:")


async def test_a_mapping_can_be_named(api: Api, client: httpx.AsyncClient):
    await send(client, {"id": 1}, "/ingest/edr?mapping=falco")
    assert api.records[0].mapping == "falco"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("mapping=falca", "no mapping 'falca'; known are falco, generic, wazuh-4; did you mean 'falco'?"),
        ("mapping=", "no mapping ''; known are falco, generic, wazuh-4"),
        ("maping=falco", "no parameter 'maping'; known is 'mapping'"),
    ],
)
async def test_an_unknown_mapping_is_refused_with_the_known_ones(api: Api, client: httpx.AsyncClient, query, message):
    response = await send(client, {"id": 1}, f"/ingest/edr?{query}")
    assert (response.status_code, response.json()["error"]["message"]) == (422, message)
    assert not api.records


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Idempotency-Key": ""}, 422),
        ({"Idempotency-Key": "k" * 256}, 422),
    ],
)
async def test_what_cannot_be_read_for_sure_is_refused(api: Api, client: httpx.AsyncClient, headers, status):
    response = await client.post("/ingest/edr", headers=bearer() | headers, content=b'{"id": 1}')
    assert response.status_code == status
    assert not api.records


@pytest.mark.parametrize("source", ["a%2Fb", "-x", "a b", "x" * 65, "ä"])
async def test_a_source_that_would_blur_coordinates_does_not_exist(api: Api, client: httpx.AsyncClient, source):
    response = await client.post(f"/ingest/{source}", headers=bearer("any-sëcret"), content=b'{"id": 1}')
    assert response.status_code == 404
    assert not api.records


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
async def test_an_empty_body_is_no_delivery(client: httpx.AsyncClient, kind):
    assert (await send(client, b" \n\n", Content_Type=kind)).status_code == 400


async def test_a_body_beyond_the_cap_is_refused_whether_announced_or_not(api: Api, client: httpx.AsyncClient):
    sent = 0

    async def endless():
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * 10_000

    assert (await send(client, b" " * (MAX_BODY_BYTES + 1))).status_code == 413
    response = await client.post("/ingest/edr", headers=bearer(), content=endless())
    assert response.status_code == 413
    assert sent < 20, "the body was read on after the cap"
    assert not api.records


async def test_more_lines_than_one_transaction_should_hold_are_refused(api: Api, client: httpx.AsyncClient):
    body = b"1\n" * (MAX_LINES + 1)
    assert (await send(client, body, Content_Type="application/x-ndjson")).status_code == 413
    assert not api.records


async def test_while_the_store_is_away_nothing_is_accepted_and_the_sender_is_told_to_come_back(
    api: Api, client: httpx.AsyncClient
):
    api.failure = StoreUnavailableError("store /var/lib/soar.db cannot be written: disk full")
    response = await send(client, {"id": 1})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "/var/lib" not in response.text
    api.failure = None
    assert (await send(client, {"id": 1})).json()["redelivered"] == 0


async def test_beyond_the_deliveries_that_memory_allows_senders_are_asked_to_come_back(
    api: Api, client: httpx.AsyncClient
):
    go_on = asyncio.Event()

    async def slow():
        await go_on.wait()
        yield b'{"id": 1}'

    async with asyncio.TaskGroup() as group:
        deliveries = [
            group.create_task(client.post("/ingest/edr", headers=bearer(), content=slow()))
            for _ in range(MAX_DELIVERIES + 3)
        ]
        done, _ = await asyncio.wait(deliveries, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 3:
            done, _ = await asyncio.wait(deliveries, timeout=0.01)
        assert {delivery.result().status_code for delivery in done} == {503}
        go_on.set()
    assert sorted(d.result().status_code for d in deliveries) == [202] * MAX_DELIVERIES + [503] * 3
    assert (await send(client, {"id": 2})).status_code == 202
