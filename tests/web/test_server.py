"""The real server on a real port."""

import asyncio
import signal
import socket

import httpx
import pytest

from soar.errors import ConfigError
from soar.web.server import WebServer, serve

from .served import MAX_BODY_BYTES, Api, bearer


async def _listens(server: WebServer) -> bool:
    try:
        _, writer = await asyncio.open_connection(server.host, server.port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def test_it_answers_on_a_free_port_names_itself_nowhere_and_leaves_signals_alone(api: Api):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    server = await serve(api.app(), host="127.0.0.1", port=0)
    try:
        async with httpx.AsyncClient(base_url=server.url) as client:
            response = await client.post("/ingest/edr", headers=bearer(), content=b'{"id": 1}')
            assert response.status_code == 202
            assert "server" not in response.headers
            assert (await client.get("/metrics")).status_code == 200
            assert {number: signal.getsignal(number) for number in before} == before
    finally:
        await server.stop()
    assert not await _listens(server)


async def test_a_port_that_is_taken_is_an_error_that_says_what_to_do(api: Api):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*set web\.host and web\.port"):
            await serve(api.app(), host="127.0.0.1", port=port)


async def test_a_request_under_way_is_finished_when_the_server_stops(api: Api):
    api.go_on = asyncio.Event()
    server = await serve(api.app(), host="127.0.0.1", port=0)
    async with httpx.AsyncClient(base_url=server.url) as client:
        delivery = asyncio.create_task(client.post("/ingest/edr", headers=bearer(), content=b'{"id": 1}'))
        await api.reached.wait()
        stopping = asyncio.create_task(server.stop())
        while await _listens(server):  # noqa: ASYNC110 - only the port tells
            await asyncio.sleep(0.01)
        assert not delivery.done()
        api.go_on.set()
        assert (await delivery).status_code == 202
    await stopping
    await server.wait()


async def test_a_body_announced_too_large_is_refused_before_it_is_sent(api: Api):
    server = await serve(api.app(), host="127.0.0.1", port=0)
    try:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        head = f"POST /ingest/edr HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nAuthorization: Bearer edr-secret\r\n\r\n".encode())
        assert b" 413 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
    finally:
        await server.stop()


async def test_a_sender_that_hangs_up_half_way_leaves_nothing_behind(api: Api):
    server = await serve(api.app(), host="127.0.0.1", port=0)
    try:
        _, writer = await asyncio.open_connection(server.host, server.port)
        head = "POST /ingest/edr HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nContent-Type: application/json\r\n"
        writer.write(f'{head}Authorization: Bearer edr-secret\r\n\r\n{{"id"'.encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with httpx.AsyncClient(base_url=server.url) as client:
            assert (await client.post("/ingest/edr", headers=bearer(), content=b'{"id": 2}')).status_code == 202
    finally:
        await server.stop()
    assert [record.value for record in api.records] == [b'{"id": 2}']
