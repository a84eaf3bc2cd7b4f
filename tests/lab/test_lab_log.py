"""The request log is complete before an answer leaves, and brings the lab back."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import httpx

from soar.lab import Fault, LabServer, Mode, read_log

TOKEN = "a-token-for-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
SERVE = """
import asyncio, pathlib, sys
from soar.lab import serve
asyncio.run(serve(0, pathlib.Path(sys.argv[1]), sys.argv[2], announce=lambda url: print(url, flush=True)))
"""


async def _spawn(log_path: Path) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, str(log_path), TOKEN, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    while not (line := (await process.stdout.readline()).decode().strip()).startswith("http"):
        assert line, "the lab ended before it listened"
    return process, line


async def test_what_was_answered_is_in_the_log_of_a_killed_lab(tmp_path: Path) -> None:
    """Five rounds of: an answer arrives, the lab is killed with SIGKILL at once. No line is missing."""
    log_path = tmp_path / "lab.jsonl"
    for number in range(1, 6):
        process, url = await _spawn(log_path)
        try:
            async with httpx.AsyncClient(base_url=url, headers=HEADERS, trust_env=False) as client:
                answer = await client.post("/desk/tickets", json={"title": f"number {number}"})
        finally:
            process.kill()
            await process.wait()
        assert answer.json()["key"] == f"DESK-{number}", "the state of the killed lab came back"
        lines = [json.loads(line) for line in log_path.read_text().splitlines()]
        assert [line["seq"] for line in lines] == list(range(1, number + 1))
        assert (lines[-1]["effect"], lines[-1]["applied"]) == (f"opened ticket DESK-{number}", True)


async def test_a_lab_in_the_foreground_ends_by_itself_when_asked(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        process, _ = await _spawn(tmp_path / "lab.jsonl")
        process.send_signal(number)
        assert await process.wait() == 0


async def test_one_line_tells_all_of_one_request(lab: LabServer, client: httpx.AsyncClient) -> None:
    body = {"title": "Ünïcode \u2028 \u0000", "labels": ["a"]}
    await client.post("/desk/tickets?x=1", json=body, headers={"Idempotency-Key": "k"})
    (text,) = lab.log_path.read_text().splitlines()
    line = json.loads(text)
    assert line.pop("at").endswith("Z")
    assert line == {
        "seq": 1,
        "system": "desk",
        "method": "POST",
        "path": "/tickets?x=1",
        "idempotency_key": "k",
        "body": body,
        "status": 201,
        "applied": True,
        "duplicate": False,
        "effect": "opened ticket DESK-1",
        "fault": None,
    }
    assert TOKEN not in text
    assert (await client.get("/_log", params={"system": "desk"})).json()["entries"] == read_log(lab.log_path)
    assert (await client.get("/_log", params={"system": "edr"})).json()["entries"] == []


async def test_lines_of_concurrent_requests_are_whole_and_in_order(lab: LabServer, client: httpx.AsyncClient) -> None:
    await asyncio.gather(*(client.post(f"/edr/hosts/h-{n}/isolate") for n in range(50)))
    entries = read_log(lab.log_path)
    assert [entry["seq"] for entry in entries] == list(range(1, 51))
    assert {entry["effect"] for entry in entries} == {f"isolated host h-{n}" for n in range(50)}


async def _use_everything(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    await client.post("/desk/tickets", json={"title": "x"}, headers=key)
    await client.post("/desk/tickets", json={"title": "x"}, headers=key)
    await client.post("/desk/tickets/DESK-1/comments", json={"text": "t"})
    await client.post("/desk/tickets/DESK-1/close", json={})
    await client.post("/edr/hosts/a%2Fb/isolate")
    await client.post("/edr/indicators", json={"type": "ip", "value": "192.0.2.1"})
    await client.delete("/edr/indicators", params={"type": "ip", "value": "192.0.2.1"})
    await client.delete("/idp/users/alice/sessions")
    await client.post("/chat/pages", json={"summary": "s", "severity": "high"}, headers=key)
    await client.post("/chat/mails/delete", json={"ids": ["mail-1"]})
    await client.post("/firewall/rules", json={"ip": "192.0.2.1"})
    await client.delete("/firewall/rules/rule-1")
    await client.patch("/intel/alerts/a", json={"status": "closed"})


async def test_a_lab_started_on_a_log_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """State, idempotency keys and numbering are as they were; a line that was being written is gone."""
    log_path = tmp_path / "lab.jsonl"
    first = LabServer(port=0, log_path=log_path, token=TOKEN)
    await first.start()
    first.faults.put("firewall", Fault(mode=Mode.GARBAGE, times=1))
    async with httpx.AsyncClient(base_url=first.url, headers=HEADERS, trust_env=False) as client:
        await _use_everything(client)
    before, count = first.snapshot(), len(read_log(log_path))
    await first.stop()
    with log_path.open("ab") as file:
        file.write(b'{"seq": 99, "system": "edr", "meth')

    second = LabServer(port=0, log_path=log_path, token=TOKEN)
    await second.start()
    assert second.snapshot() == before
    async with httpx.AsyncClient(base_url=second.url, headers=HEADERS, trust_env=False) as client:
        again = await client.post("/desk/tickets", json={"title": "x"}, headers={"Idempotency-Key": "k"})
    await second.stop()
    assert again.json()["key"] == "DESK-1"
    last = read_log(log_path)[-1]
    assert (last["seq"], last["duplicate"]) == (count + 1, True)
