"""`soar audit erase` on a server of its own: nothing of a person is left in any file of its data folder."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import structlog

from .operate_home import Home, as_bytes, fill
from .postgres_home import lodge, schema, told

pytestmark = pytest.mark.postgres

WHY = ("--reason", "request 4711", "--as", "alice")
PERSON = "db-01"
LONG = "frodo-of-bag-end " * 3000  # goes out of its row, compressed
ODD = 'CORP\\Éowyn "x"'


@pytest.fixture(scope="module")
def home(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home in which the run about `PERSON` has ended, with a large alert, an odd one, and one that is broken."""
    with schema(server) as dsn:
        home = fill(lodge(tmp_path_factory.mktemp("home"), dsn))
        assert home.soar("runs", "cancel", home.run("server"), "--reason", "false alarm", "--as", "alice").code == 0
        odd = {"id": "z-1", "rule_id": "none", "title": ODD, "severity": "low"}
        large = {
            "id": "z-2",
            "rule_id": "none",
            "title": "x",
            "severity": "low",
            "text": LONG,
            "noise": os.urandom(9000).hex(),
        }
        home.work({"odd": as_bytes(odd), "large": as_bytes(large), "broken": b"{not JSON, but of frodo@shire.example"})
        structlog.reset_defaults()
        yield home


@pytest.fixture(scope="module")
def folder(server: str) -> Path:
    """The server's data folder, with its write-ahead log."""
    path = Path(told(server, "SELECT current_setting('data_directory')")[0][0])
    if not os.access(path / "base", os.R_OK | os.X_OK):
        pytest.skip("the server's data folder cannot be read by this user")
    return path


def held(folder: Path, word: str) -> list[str]:
    """The files of the server that hold this word, in any case."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [str(path.relative_to(folder)) for path in files if word.encode().lower() in path.read_bytes().lower()]


@pytest.mark.parametrize("person", [PERSON, "éowyn", "frodo@shire.example", "frodo-of-bag-end"])
def test_what_is_erased_is_in_no_file_of_the_server_and_every_proof_stands(
    home: Home, server: str, folder: Path, person: str
) -> None:
    told(server, "CHECKPOINT")
    if person == PERSON:  # what is compressed, or base64, does not show the word
        before = held(folder, person)
        assert {"base", "pg_wal"} <= {name.partition("/")[0] for name in before}, before
    said = home.soar("audit", "erase", "--subject", person.upper(), *WHY, "--yes", "--json")
    assert said.code == 0, said.error
    assert said.json["remains"] == []
    assert held(folder, person) == []
    for spelled in {person, person.encode("unicode_escape").decode()}:
        assert held(folder, spelled) == []
    again = home.soar("audit", "erase", "--subject", person, *WHY, "--yes")
    assert (again.code, "nothing in the store" in again.error) == (2, True)
    report = home.soar("audit", "verify", "--json").json
    assert report["ok"], report["findings"]
    shown = home.soar("audit", "show", "--type", "payload.erased", "--limit", "999", "--json").json
    assert {*said.json["entries"]} <= {each["subject"] for each in shown}
    assert {each["actor"] for each in shown} == {"person:alice"}


def test_what_others_said_stays_readable(home: Home) -> None:
    assert home.soar("alerts", "show", home.alert("look"), "--json").json["alert"]["title"] == "Beacon from ws-17"
    assert home.story(home.run("look"))["run"]["state"] == "succeeded"


def test_nothing_is_erased_while_a_run_needs_it(home: Home) -> None:
    said = home.soar("audit", "erase", "--subject", "merry", *WHY, "--yes")
    assert said.code == 5
    assert home.run("question") in said.error


def test_a_transaction_that_still_sees_the_rows_is_named(home: Home) -> None:
    """Its snapshot keeps them in the files, whatever is done; afterwards the same command finishes the work."""
    dsn = (home.folder / "database").read_text()
    ready, go = threading.Event(), threading.Event()
    pids: list[int] = []

    async def hold() -> None:
        db = await asyncpg.connect(dsn)
        await db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        pids.append(await db.fetchval("SELECT pg_backend_pid() FROM runs LIMIT 1"))
        ready.set()
        await asyncio.to_thread(go.wait)
        await db.close()

    other = threading.Thread(target=lambda: asyncio.run(hold()))
    other.start()
    ready.wait()
    said = home.soar("audit", "erase", "--subject", "ws-18", *WHY, "--yes")
    go.set()
    other.join()
    assert said.code == 4
    assert f"process {pids[0]} still sees them" in said.error
    again = home.soar("audit", "erase", "--subject", "ws-18", *WHY, "--yes")
    assert (again.code, "nothing in the store" in again.error) == (2, True), "what was left to do is done"
