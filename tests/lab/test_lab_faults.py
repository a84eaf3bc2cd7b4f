"""Every fault switch, observed by a client over a real socket and in the log."""

import httpx
import pytest

from soar.lab import Fault, LabServer, Mode, read_log
from soar.lab.faults import FaultBoard

ISOLATE = "/edr/hosts/ws-17/isolate"


def _isolated(lab: LabServer) -> bool:
    return bool(lab.snapshot()["edr"]["hosts"]["ws-17"]["isolated"])


@pytest.mark.parametrize(
    ("switch", "status", "header"),
    [
        ({"mode": "unauthorized"}, 401, None),
        ({"mode": "rate_limited", "retry_after": 7}, 429, ("Retry-After", "7")),
        ({"mode": "rate_limited"}, 429, ("Retry-After", "1")),
        ({"mode": "error"}, 500, None),
        ({"mode": "error", "status": 503, "retry_after": 2}, 503, ("Retry-After", "2")),
        ({"mode": "redirect"}, 307, ("Location", "http://169.254.169.254/latest/meta-data/")),
    ],
)
async def test_a_refusing_fault_answers_and_does_nothing(
    lab: LabServer,
    client: httpx.AsyncClient,
    switch: dict[str, object],
    status: int,
    header: tuple[str, str] | None,
) -> None:
    assert (await client.put("/_faults/edr", json=switch)).status_code == 200
    answer = await client.post(ISOLATE)
    assert answer.status_code == status
    if header:
        assert answer.headers[header[0]] == header[1]
    assert not _isolated(lab)
    (entry,) = read_log(lab.log_path)
    assert (entry["status"], entry["applied"], entry["fault"]) == (status, False, switch["mode"])


@pytest.mark.parametrize(("mode", "acts"), [(Mode.DROP_BEFORE, False), (Mode.DROP_AFTER, True)])
async def test_a_dropped_connection_gives_no_answer_and_the_log_says_what_was_done(
    lab: LabServer, client: httpx.AsyncClient, mode: Mode, acts: bool
) -> None:
    lab.faults.put("edr", Fault(mode=mode, times=1))
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await client.post(ISOLATE)
    assert _isolated(lab) is acts
    (entry,) = read_log(lab.log_path)
    assert (entry["status"], entry["applied"], entry["fault"]) == (None, acts, mode)

    assert (await client.post(ISOLATE)).status_code == 200, "the fault was for one request"


async def test_a_slow_answer_comes_after_the_act(lab: LabServer, client: httpx.AsyncClient) -> None:
    lab.faults.put("edr", Fault(mode=Mode.SLOW, seconds=60, times=1))
    with pytest.raises(httpx.ReadTimeout):
        await client.post(ISOLATE, timeout=httpx.Timeout(60, read=1))
    assert _isolated(lab)


async def test_a_slow_answer_comes_in_the_end(lab: LabServer, client: httpx.AsyncClient) -> None:
    lab.faults.put("edr", Fault(mode=Mode.SLOW, seconds=0.05))
    assert (await client.post(ISOLATE)).json()["isolated"] is True


async def test_garbage_is_a_success_that_cannot_be_read(lab: LabServer, client: httpx.AsyncClient) -> None:
    lab.faults.put("edr", Fault(mode=Mode.GARBAGE))
    answer = await client.post(ISOLATE)
    assert (answer.status_code, answer.text[0]) == (200, "<")
    assert _isolated(lab)


async def test_a_huge_answer_is_as_long_as_asked_for(lab: LabServer, client: httpx.AsyncClient) -> None:
    lab.faults.put("edr", Fault(mode=Mode.HUGE, size_bytes=200_000))
    assert len((await client.post(ISOLATE)).json()["padding"]) == 200_000


async def test_who_leaves_a_huge_answer_early_does_not_harm_the_lab(lab: LabServer, client: httpx.AsyncClient) -> None:
    lab.faults.put("edr", Fault(mode=Mode.HUGE, times=1))
    async with client.stream("POST", ISOLATE) as answer:
        read = 0
        async for piece in answer.aiter_raw():
            read += len(piece)
            if read > 1_000_000:
                break
    assert (await client.get("/edr/hosts/ws-17")).json()["isolated"] is True


async def test_a_fault_can_be_for_one_path_and_one_method(lab: LabServer, client: httpx.AsyncClient) -> None:
    await client.put("/_faults/edr/hosts/ws-17", json={"mode": "error", "method": "POST"})
    assert (await client.post(ISOLATE)).status_code == 500
    assert (await client.get("/edr/hosts/ws-17")).status_code == 200
    assert (await client.post("/edr/hosts/ws-23/isolate")).status_code == 200
    assert (await client.post("/idp/users/bob/disable")).status_code == 200


async def test_a_fault_ends_after_its_times_or_when_deleted(lab: LabServer, client: httpx.AsyncClient) -> None:
    await client.put("/_faults/edr", json={"mode": "error", "times": 2})
    assert [(await client.post(ISOLATE)).status_code for _ in range(3)] == [500, 500, 200]

    await client.put("/_faults/edr", json={"mode": "error"})
    await client.put("/_faults/idp", json={"mode": "error"})
    assert set((await client.get("/_faults")).json()) == {"edr", "idp"}
    await client.delete("/_faults/edr")
    assert (await client.post(ISOLATE)).status_code == 200
    assert (await client.post("/idp/users/bob/disable")).status_code == 500
    assert (await client.delete("/_faults")).json() == {}


@pytest.mark.parametrize(
    ("where", "switch", "status"),
    [
        ("nowhere", {"mode": "error"}, 404),
        ("edr", {"mode": "explode"}, 422),
        ("edr", {"mode": "error", "tims": 1}, 422),
    ],
)
async def test_a_switch_that_does_not_exist_is_refused(
    client: httpx.AsyncClient, where: str, switch: dict[str, object], status: int
) -> None:
    answer = await client.put(f"/_faults/{where}", json=switch)
    assert answer.status_code == status
    assert (await client.get("/_faults")).json() == {}


def test_the_longest_path_fits_best_and_a_name_is_not_its_beginning() -> None:
    board = FaultBoard()
    board.put("edr", Fault(mode=Mode.ERROR))
    board.put("/edr/hosts/ws-1/", Fault(mode=Mode.SLOW))
    inner, outer = board.take("GET", "/edr/hosts/ws-1"), board.take("GET", "/edr/hosts/ws-17")
    assert inner is not None
    assert outer is not None
    assert (inner.mode, outer.mode) == (Mode.SLOW, Mode.ERROR)
    assert board.take("GET", "/edrx") is None
