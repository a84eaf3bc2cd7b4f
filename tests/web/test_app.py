"""Who may do what over HTTP, and what every answer has in common."""

import httpx
import pytest
from starlette.routing import Route

from soar.web.access import Permission
from soar.web.answers import CODES, HEADERS
from soar.web.app import ROUTES

from .served import Api, bearer, reveal


def test_every_route_has_its_row_and_every_row_its_route(api: Api):
    """A route that is not in the declared table fails here."""
    served = []
    for route in api.app().routes:
        assert isinstance(route, Route), f"{route} is no plain route; the table cannot speak for it"
        served += [(method, route.path) for method in route.methods or () if method != "HEAD"]
    assert sorted(served) == sorted((row.method, row.path) for row in ROUTES)


def test_only_what_is_meant_to_be_public_is_public():
    assert [row.path for row in ROUTES if row.permission is Permission.PUBLIC] == ["/health"]


def test_no_get_changes_anything():
    """Whatever changes something is not reachable by a link."""
    assert [row.path for row in ROUTES if row.method == "GET"] == ["/health", "/metrics"]


@pytest.mark.parametrize("row", [row for row in ROUTES if row.permission is not Permission.PUBLIC])
async def test_a_stranger_gets_nothing_but_health(api: Api, row):
    async with api.client("192.0.2.7", reveal("METRICS_TOKEN")) as stranger:
        response = await stranger.request(row.method, row.path.format(source="edr"), content=b"{}")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert not api.records


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic edr-secret", "edr-secret", "Bearer edr-secret2", "Bearer ë"],
)
async def test_without_the_right_token_nothing_is_admitted(api: Api, client: httpx.AsyncClient, authorization):
    headers = bearer() | {"Authorization": (authorization or "").encode()}
    if authorization is None:
        del headers["Authorization"]
    response = await client.post("/ingest/edr", headers=headers, content=b'{"id": 1}')
    assert response.status_code == 401
    assert response.json() == {"error": {"code": "unauthorized", "message": "a valid bearer token is needed"}}
    assert not api.records


async def test_a_token_opens_its_own_source_only(api: Api, client: httpx.AsyncClient):
    response = await client.post("/ingest/siem", headers=bearer(), content=b'{"id": 1}')
    assert (response.status_code, response.json()["error"]) == (403, {"code": "forbidden", "message": "not allowed"})
    assert not api.records


async def test_the_token_of_the_star_opens_every_source(client: httpx.AsyncClient):
    for source in ("edr", "siem"):
        response = await client.post(f"/ingest/{source}", headers=bearer("any-sëcret"), content=b'{"id": 1}')
        assert response.status_code == 202


async def test_a_token_that_cannot_be_had_opens_nothing_and_closes_nothing_else(client: httpx.AsyncClient):
    """`lost` names a variable that is not set."""
    assert (await client.post("/ingest/lost", headers=bearer(""), content=b"{}")).status_code == 401
    assert (await client.post("/ingest/edr", headers=bearer(), content=b'{"id": 1}')).status_code == 202


async def test_health_says_ok_to_anyone(api: Api):
    async with api.client("192.0.2.7") as stranger:
        response = await stranger.get("/health")
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_health_says_what_is_wrong(api: Api, client: httpx.AsyncClient):
    api.wrong["kafka"] = "no broker answers"
    response = await client.get("/health")
    assert response.status_code == 503
    assert response.json() == {"status": "failing", "failing": {"kafka": "no broker answers"}}


async def test_metrics_without_a_token_are_for_this_machine(api: Api):
    for peer in ("127.0.0.1", "::1"):
        async with api.client(peer) as near:
            response = await near.get("/metrics")
            assert (response.status_code, response.text) == (200, "soar_alerts_total 3\n")
            assert response.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_metrics_are_not_given_to_other_machines_whatever_they_claim(api: Api):
    async with api.client("192.0.2.7") as far:
        forged = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "Host": "localhost"}
        assert (await far.get("/metrics", headers=forged)).status_code == 403


async def test_metrics_are_not_given_to_a_web_page_whose_name_points_here(client: httpx.AsyncClient):
    for name in ("attacker.example", "localhost.attacker.example", "127.0.0.1.attacker.example:8787", "[", ""):
        assert (await client.get("/metrics", headers={"Host": name})).status_code == 403


async def test_a_metrics_token_is_asked_for_everywhere_and_opens_nothing_else(api: Api):
    async with api.client("127.0.0.1", reveal("METRICS_TOKEN")) as near:
        assert (await near.get("/metrics")).status_code == 401
        assert (await near.get("/metrics", headers=bearer("edr-secret"))).status_code == 401
        assert (await near.get("/metrics", headers=bearer("metrics-secret"))).status_code == 200
        assert (await near.post("/ingest/edr", headers=bearer("metrics-secret"), content=b"{}")).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/health/", 404),
        ("GET", "/ingest", 404),
        ("GET", "/ingest/edr", 405),
        ("DELETE", "/health", 405),
        ("GET", "/%2e%2e/etc/passwd", 404),
        ("POST", "/ingest/edr", 401),
    ],
)
async def test_every_error_has_one_form_and_safe_headers(client: httpx.AsyncClient, method, path, status):
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == CODES[status]
    assert all(response.headers[name] == value for name, value in HEADERS.items())
    assert "server" not in response.headers


async def test_what_nobody_foresaw_is_told_to_the_log_and_not_to_the_caller(api: Api, client: httpx.AsyncClient):
    api.failure = RuntimeError("the inside of the house")
    response = await client.post("/ingest/edr", headers=bearer(), content=b'{"id": 1}')
    assert response.status_code == 500
    assert response.json() == {"error": {"code": "internal", "message": "soar failed to answer; its log says why"}}
    assert all(response.headers[name] == value for name, value in HEADERS.items())
