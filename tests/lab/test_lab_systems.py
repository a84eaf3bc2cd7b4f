"""What each system of the lab does, asked over a real socket."""

from urllib.parse import quote

import httpx
import pytest

from soar.lab import LabServer, read_log


async def _open(client: httpx.AsyncClient, title: str, key: str = "") -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await client.post("/desk/tickets", json={"title": title}, headers=headers)


async def test_a_ticket_is_opened_changed_commented_and_closed(client: httpx.AsyncClient) -> None:
    created = await _open(client, "Ransomware on ws-17")
    assert (created.status_code, created.json()["key"], created.json()["status"]) == (201, "DESK-1", "open")

    await client.patch("/desk/tickets/DESK-1", json={"severity": "critical", "status": "in_progress"})
    await client.post("/desk/tickets/DESK-1/comments", json={"text": "isolated"})
    closed = await client.post("/desk/tickets/DESK-1/close", json={"resolution": "true positive"})
    assert closed.status_code == 200

    ticket = (await client.get("/desk/tickets/DESK-1")).json()
    assert (ticket["severity"], ticket["status"], ticket["resolution"]) == ("critical", "closed", "true positive")
    assert [comment["text"] for comment in ticket["comments"]] == ["isolated"]


async def test_a_closed_ticket_refuses_changes_until_it_is_reopened(client: httpx.AsyncClient) -> None:
    await _open(client, "x")
    await client.post("/desk/tickets/DESK-1/close", json={})

    assert (await client.patch("/desk/tickets/DESK-1", json={"title": "y"})).status_code == 409
    assert (await client.post("/desk/tickets/DESK-1/close", json={"resolution": "other"})).status_code == 409
    assert (await client.post("/desk/tickets/DESK-1/close", json={})).status_code == 200
    assert (await client.patch("/desk/tickets/DESK-1", json={"title": "y", "status": "open"})).status_code == 200


async def test_tickets_are_found_by_all_words_newest_first(client: httpx.AsyncClient) -> None:
    for title in ("Phishing for alice", "Phishing for bob", "Brute force"):
        await _open(client, title)

    found = (await client.get("/desk/tickets", params={"query": "PHISHING for"})).json()
    assert [ticket["key"] for ticket in found["tickets"]] == ["DESK-2", "DESK-1"]
    limited = (await client.get("/desk/tickets", params={"query": "", "limit": 1})).json()
    assert ([ticket["key"] for ticket in limited["tickets"]], limited["total"]) == (["DESK-3"], 3)


async def test_a_repeated_key_gets_the_first_answer_and_changes_nothing(
    lab: LabServer, client: httpx.AsyncClient
) -> None:
    first, again = await _open(client, "x", "key-1"), await _open(client, "x", "key-1")

    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert list(lab.snapshot()["desk"]["tickets"]) == ["DESK-1"]
    assert [(e["applied"], e["duplicate"]) for e in read_log(lab.log_path)] == [(True, False), (False, True)]


async def test_a_key_cannot_be_used_for_another_request(client: httpx.AsyncClient) -> None:
    await _open(client, "x", "key-1")
    assert (await _open(client, "y", "key-1")).status_code == 422


async def test_a_refused_request_does_not_use_up_its_key(client: httpx.AsyncClient) -> None:
    assert (await _open(client, "", "key-1")).status_code == 422
    assert (await _open(client, "x", "key-1")).status_code == 201


async def test_unsafe_endpoints_ignore_the_key_and_act_again(lab: LabServer, client: httpx.AsyncClient) -> None:
    await _open(client, "x")
    for _ in range(2):
        headers = {"Idempotency-Key": "same"}
        await client.post("/desk/tickets/DESK-1/comments", json={"text": "hello"}, headers=headers)
        await client.post("/chat/messages", json={"channel": "#soc", "text": "hello"}, headers=headers)
        await client.post("/firewall/rules", json={"ip": "203.0.113.66"}, headers=headers)

    state = lab.snapshot()
    assert len(state["desk"]["tickets"]["DESK-1"]["comments"]) == 2
    assert len(state["chat"]["messages"]) == 2
    assert len(state["firewall"]["rules"]) == 2


async def test_a_host_is_isolated_and_released_and_twice_is_once(lab: LabServer, client: httpx.AsyncClient) -> None:
    await client.post("/edr/hosts/ws-17/isolate")
    await client.post("/edr/hosts/ws-17/isolate")
    assert (await client.get("/edr/hosts/ws-17")).json()["isolated"] is True
    await client.post("/edr/hosts/ws-17/release")
    assert (await client.get("/edr/hosts/ws-17")).json()["isolated"] is False

    effects = [entry["effect"] for entry in read_log(lab.log_path)]
    assert effects == ["isolated host ws-17", None, None, "released host ws-17", None]


@pytest.mark.parametrize("name", ["i-0abc", "Ünïcode host", "a/b", "arn:aws:ec2:x", "%2e%2e", "a?b#c"])
async def test_a_host_of_any_name_is_enrolled_when_acted_on(
    lab: LabServer, client: httpx.AsyncClient, name: str
) -> None:
    path = f"/edr/hosts/{quote(name, safe='')}"
    assert (await client.get(path)).json()["isolated"] is False
    assert name not in lab.snapshot()["edr"]["hosts"], "looking enrols nobody"
    await client.post(f"{path}/isolate")
    assert lab.snapshot()["edr"]["hosts"][name]["isolated"] is True


async def test_an_indicator_is_blocked_once_and_unblocked(lab: LabServer, client: httpx.AsyncClient) -> None:
    indicator = {"type": "url", "value": "http://login-verify.test/keep?a=b"}
    assert (await client.post("/edr/indicators", json=indicator)).status_code == 201
    assert (await client.post("/edr/indicators", json=indicator)).status_code == 200
    assert len(lab.snapshot()["edr"]["blocked"]) == 1
    assert (await client.delete("/edr/indicators", params=indicator)).status_code == 200
    assert lab.snapshot()["edr"]["blocked"] == []


async def test_a_user_is_disabled_signed_out_and_enabled(client: httpx.AsyncClient) -> None:
    await client.post("/idp/users/alice/disable")
    assert (await client.delete("/idp/users/alice/sessions")).json()["revoked"] == 3
    assert (await client.delete("/idp/users/alice/sessions")).json()["revoked"] == 0
    assert (await client.get("/idp/users/alice")).json()["enabled"] is False
    assert (await client.post("/idp/users/alice/enable")).json()["enabled"] is True


async def test_a_page_is_sent_once_per_key_and_once_per_dedup_key(lab: LabServer, client: httpx.AsyncClient) -> None:
    page = {"summary": "wake up", "severity": "critical"}
    for key in ("k1", "k1", "k2"):
        await client.post("/chat/pages", json=page, headers={"Idempotency-Key": key})
    assert len(lab.snapshot()["chat"]["pages"]) == 2
    for key in ("k3", "k4"):
        await client.post("/chat/pages", json=page | {"dedup_key": "alert-1"}, headers={"Idempotency-Key": key})
    assert len(lab.snapshot()["chat"]["pages"]) == 3


async def test_mails_are_found_sent_and_deleted_for_good(client: httpx.AsyncClient) -> None:
    found = (await client.get("/chat/mails", params={"query": "login-verify.test password"})).json()["mails"]
    assert [mail["id"] for mail in found] == ["mail-1", "mail-2"]
    gone = await client.post("/chat/mails/delete", json={"ids": ["mail-1", "mail-2", "mail-1", "mail-99"]})
    assert gone.json()["deleted"] == ["mail-1", "mail-2"]
    sent = await client.post("/chat/mails", json={"to": ["a@range.test"], "subject": "s", "text": "t"})
    assert sent.json()["id"] == "mail-4", "an id is not given twice"


async def test_a_firewall_rule_is_added_looked_up_and_removed(client: httpx.AsyncClient) -> None:
    rule = (await client.post("/firewall/rules", json={"ip": "2001:db8::1"})).json()
    looked_up = await client.get("/firewall/rules", params={"ip": "2001:DB8:0::1"})
    assert [found["id"] for found in looked_up.json()["rules"]] == [rule["id"]]
    assert (await client.delete(f"/firewall/rules/{rule['id']}")).status_code == 200
    assert (await client.delete(f"/firewall/rules/{rule['id']}")).status_code == 404


async def test_verdicts_are_the_same_every_time(client: httpx.AsyncClient) -> None:
    eicar = "275A021BBFB6489E54D471899F7DB9D1663FC695EC2FE2A2C4538AABF651FD0F"
    bad = (await client.get("/intel/indicators", params={"type": "sha256", "value": eicar})).json()
    assert (bad["known"], bad["malicious"] > 0, bad["score"], bad["tags"]) == (True, True, 95, ["eicar"])
    unknown = (await client.get("/intel/indicators", params={"type": "ip", "value": "192.0.2.99"})).json()
    assert (unknown["known"], unknown["malicious"], unknown["score"]) == (False, 0, 0)


async def test_events_are_searched_by_field_word_and_time(client: httpx.AsyncClient) -> None:
    async def rows(**asked: str) -> list[str]:
        return [row["event"] for row in (await client.get("/intel/events", params=asked)).json()["rows"]]

    assert await rows(query="host=ws-17") == ["dns_query", "process_start", "connection"]
    assert await rows(query="host=ws-17 203.0.113") == ["connection"]
    assert await rows(query="host=ws-1") == []
    assert await rows(query="user=carol") == []
    assert await rows(query="user=carol", earliest="-2d") == ["logon"]
    assert await rows(query="user=carol", earliest="2020-01-01T00:00:00Z", latest="-25h") == ["logon"]
    assert (await client.get("/intel/events", params={"earliest": "yesterday"})).status_code == 422


async def test_the_state_of_an_alert_is_set(client: httpx.AsyncClient) -> None:
    assert (await client.get("/intel/alerts/a-1")).status_code == 404
    await client.patch("/intel/alerts/a-1", json={"status": "closed", "comment": "noise"})
    assert (await client.get("/intel/alerts/a-1")).json() == {"id": "a-1", "status": "closed", "comment": "noise"}


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/desk/tickets/DESK-9", b"", 404),
        ("GET", "/desk/nothing", b"", 404),
        ("GET", "/nothing", b"", 404),
        ("PUT", "/desk/tickets", b"{}", 405),
        ("POST", "/desk/tickets", b"{", 400),
        ("POST", "/desk/tickets", b'{"title": NaN}', 400),
        ("POST", "/desk/tickets", b"[" * 100_000, 400),
        ("POST", "/desk/tickets", b"\xff", 400),
        ("POST", "/desk/tickets", b"[]", 422),
        ("POST", "/desk/tickets", b'{"title": "x", "unknown": 1}', 422),
        ("POST", "/desk/tickets", b'{"title": "\\ud800"}', 422),
        ("GET", "/desk/tickets?limit=0", b"", 422),
        ("POST", "/firewall/rules", b'{"ip": "not an address"}', 422),
        ("POST", "/desk/tickets", b'{"title": "' + b"x" * 2_000_000 + b'"}', 413),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_own_status(
    lab: LabServer, client: httpx.AsyncClient, method: str, path: str, content: bytes, status: int
) -> None:
    answer = await client.request(method, path, content=content)
    assert answer.status_code == status
    assert lab.snapshot()["desk"]["tickets"] == {}


@pytest.mark.parametrize("sent", ["", "Bearer wrong", "Basic a-token-for-tests", "Bearer \xfc"])
async def test_without_the_token_nothing_is_done(lab: LabServer, client: httpx.AsyncClient, sent: str) -> None:
    answer = await client.post("/edr/hosts/ws-17/isolate", headers={"Authorization": sent.encode("latin-1")})
    assert answer.status_code == 401
    assert lab.snapshot()["edr"]["hosts"]["ws-17"]["isolated"] is False
    (entry,) = read_log(lab.log_path)
    assert (entry["status"], entry["applied"]) == (401, False)
