"""What is old leaves the store and stays readable and provable; what an unfinished run needs stays."""

from __future__ import annotations

import asyncio
import gzip
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from soar.cli.app import app
from soar.engine.retention import Retention, Swept
from soar.engine.scribe import Scribe
from soar.errors import StateConflictError
from soar.journal.archive import Kept
from soar.journal.trust import TrustPolicy
from soar.model.clock import SystemClock, UlidSource
from soar.model.entry import EntryType
from soar.service import read_key
from soar.service.storage import archive_of, store_of
from soar.settings import load_settings
from soar.store.port import Store

from .operate_home import Home, fill
from .postgres_home import lodge, schema

DAYS = 90
LATER = timedelta(days=100)
WHY = ("--reason", "request 4711", "--as", "alice")


class Future:
    """The clock in a hundred days."""

    def now(self) -> datetime:
        return SystemClock().now() + LATER


@asynccontextmanager
async def opened(home: Home) -> AsyncIterator[Store]:
    store = store_of(load_settings(home.config, {}))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def sweep(home: Home, **measures: int) -> Swept:
    """What the service does once a day, in a hundred days."""

    async def work() -> Swept:
        async with opened(home) as store:
            scribe = Scribe(clock=Future(), ids=UlidSource())
            folder = archive_of(load_settings(home.config, {}))
            return await Retention(store=store, scribe=scribe, folder=folder, days=DAYS, **measures).sweep()

    return asyncio.run(work())


def counts(home: Home) -> Any:
    async def count() -> Any:
        async with opened(home) as store:
            return await store.counts()

    return asyncio.run(count())


def files(home: Home) -> list[Path]:
    return sorted((home.folder / "data" / "archive").glob("*.gz"))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """Every alert answered as far as it goes; two runs wait for people."""
    if request.param == "sqlite":
        shutil.copytree(request.getfixturevalue("filled").folder, tmp_path / "home")
        yield Home(tmp_path / "home", dict(request.getfixturevalue("filled").admitted))
    else:
        (tmp_path / "home").mkdir()
        yield fill(lodge(tmp_path / "home", request.getfixturevalue("own")))
    structlog.reset_defaults()


@pytest.fixture
def own(server: str) -> Iterator[str]:
    """A schema for one test."""
    with schema(server) as home:
        yield home


def story(home: Home) -> Any:
    return home.soar("audit", "show", "--limit", "999", "--json").json


def test_what_is_old_leaves_and_is_read_as_before(home: Home, tmp_path: Path) -> None:
    entries, asked, before = story(home), home.soar("audit", "query", "--all", "--format", "json").json, counts(home)
    events = home.soar("audit", "query", "--format", "ocsf").out
    swept = sweep(home)
    assert swept.payloads
    assert swept.files == len(files(home)) == 1
    assert (swept.forgotten.runs, swept.forgotten.alerts) == (3, 4)
    after = counts(home)
    assert after.runs == {"waiting": before.runs["waiting"]} == {"waiting": 2}
    assert sum(after.alerts.values()) == 2
    report = home.soar("audit", "verify", "--archive", "--json").json
    assert report["ok"], report["findings"]
    assert (report["archived"], report["away"], report["erased"]) == (swept.payloads, 0, 0)
    assert story(home)[: len(entries)] == entries
    assert home.soar("audit", "query", "--all", "--format", "json").json[: len(asked)] == asked
    assert home.soar("audit", "query", "--format", "ocsf").out == events
    status = home.soar("audit", "status", "--json").json
    assert (status["archived"], status["archive_files"]) == (swept.payloads, 1)
    trusted = tmp_path / "trusted"
    trusted.write_text(TrustPolicy.of([read_key(load_settings(home.config, {})).verifier]).to_text())
    (tmp_path / "run").write_text(home.soar("audit", "prove", home.run("look"), "--payloads").out)
    assert '"payload"' in (tmp_path / "run").read_text()
    assert home.soar("audit", "export", str(tmp_path / "folder"), "--payloads").code == 0
    for name in ("run", "folder"):
        assert (
            CliRunner().invoke(app, ["audit", "check", str(tmp_path / name), "--policy", str(trusted)]).exit_code == 0
        )
    assert sweep(home).payloads == 0, "nothing is left to do"


def test_a_run_that_has_not_ended_goes_on_after_a_hundred_days(home: Home) -> None:
    sweep(home)
    assert home.soar("alerts", "show", home.alert("server")).code == 0
    assert home.story(home.run("server"))["run"]["state"] == "waiting"
    assert home.say("deny", "server", "--reason", "no").code == 0
    home.work()
    structlog.reset_defaults()
    assert home.story(home.run("server"))["run"]["state"] == "denied"
    report = home.soar("audit", "verify", "--json").json
    assert report["ok"], report["findings"]


def test_the_journal_tells_what_left_and_where_it_is(home: Home) -> None:
    swept = sweep(home)
    (archived,) = home.soar("audit", "show", "--type", "payload.archived", "--json").json
    assert archived["subject"] == files(home)[0].name
    assert archived["data"]["payloads"] == swept.payloads
    assert archived["actor"] == "retention"
    (gone,) = home.soar("audit", "show", "--type", "state.forgotten", "--json").json
    assert gone["data"]["runs"] == swept.forgotten.runs
    sums = (files(home)[0].parent / "SHA256SUMS").read_text()
    assert sums == f"{archived['data']['sha256']}  {archived['subject']}\n"


def test_an_archive_that_was_changed_or_is_not_here_is_found_out(home: Home) -> None:
    sweep(home)
    (file,) = files(home)
    good = file.read_bytes()
    text = gzip.decompress(good).replace(b"ws-17", b"ws-71")
    file.write_bytes(gzip.compress(text, mtime=0))
    said = home.soar("audit", "verify", "--json")
    assert said.code == 1
    assert f"archive file {file.name} is not the one that the journal names" in said.json["findings"][0]["message"]
    file.unlink()
    elsewhere = home.soar("audit", "verify", "--json")
    assert elsewhere.code == 0, "an archive may be kept elsewhere"
    assert elsewhere.json["away"] > 0
    said = home.soar("audit", "verify", "--archive", "--json")
    assert said.code == 1
    assert f"archive file {file.name} is not in" in said.json["findings"][0]["message"]
    file.write_bytes(good)
    assert home.soar("audit", "verify", "--archive").code == 0


def test_somebody_is_erased_from_the_archive_too(home: Home) -> None:
    home.soar("runs", "cancel", home.run("server"), "--reason", "false alarm", "--as", "alice")
    home.work()
    sweep(home)
    (before,) = files(home)
    assert b"ws-17" in gzip.decompress(before.read_bytes())
    said = home.soar("audit", "erase", "--subject", "WS-17", *WHY, "--yes", "--json")
    assert said.code == 0, said.error
    assert said.json["archived"]
    (after,) = files(home)
    assert after != before
    assert b"ws-17" not in gzip.decompress(after.read_bytes())
    report = home.soar("audit", "verify", "--archive", "--json").json
    assert report["ok"], report["findings"]
    assert report["erased"] == len(said.json["archived"]) + len(said.json["entries"])
    again = home.soar("audit", "erase", "--subject", "ws-17", *WHY, "--yes")
    assert (again.code, "nothing in the store" in again.error) == (2, True)


def test_a_crash_between_file_and_store_loses_nothing(home: Home) -> None:
    """The file that was left counts for nothing, and the next round removes it."""
    folder = archive_of(load_settings(home.config, {}))
    left = folder.put([Kept(index=0, id="entry-x", salt=bytes(32), payload=b"{}")])
    assert home.soar("audit", "verify", "--archive").code == 0
    sweep(home)
    assert left.name not in [file.name for file in files(home)]
    assert home.soar("audit", "verify", "--archive").code == 0


def test_a_crash_right_after_the_last_file_leaves_nothing_unlisted(home: Home) -> None:
    """The next round lists it, and removes what counts for nothing, though nothing more is due."""
    sweep(home)
    (file,) = files(home)
    sums = file.parent / "SHA256SUMS"
    listed = sums.read_text()
    sums.unlink()
    archive_of(load_settings(home.config, {})).put([Kept(index=0, id="entry-x", salt=bytes(32), payload=b"{}")])
    assert sweep(home).payloads == 0
    assert sums.read_text() == listed
    assert files(home) == [file]


def test_a_payload_that_is_gone_meanwhile_is_not_archived(home: Home) -> None:
    async def work() -> None:
        async with opened(home) as store:
            scribe = Scribe(clock=Future(), ids=UlidSource())
            told = scribe.entry(EntryType.PAYLOAD_ARCHIVED, "file")
            size, _ = await store.tree()
            found = await store.old_payloads(Future().now(), after="", limit=5)
            with pytest.raises(StateConflictError, match="is gone"):
                await store.archive([*(each.id for each in found.payloads), "entry-none"], told)
            assert await store.tree() == (size, (await store.tree())[1])
            assert await store.old_payloads(Future().now(), after="", limit=5) == found

    asyncio.run(work())


def test_small_batches_come_to_the_same_end(home: Home) -> None:
    entries = story(home)
    swept = sweep(home, payloads_max=7, rows_max=1)
    assert swept.files == len(files(home)) > 3
    assert (swept.forgotten.runs, swept.forgotten.alerts) == (3, 4)
    assert story(home)[: len(entries)] == entries
    report = home.soar("audit", "verify", "--archive", "--json").json
    assert report["ok"], report["findings"]
    assert report["archived"] == swept.payloads


def test_the_command_does_what_the_service_does(home: Home) -> None:
    said = home.soar("audit", "archive", "--json")
    assert said.code == 0
    assert (said.json["payloads"], said.json["files"]) == (0, 0), "nothing here is ninety days old"
    assert not files(home)
    assert home.soar("audit", "archive", "--older-than", "0").code == 2
