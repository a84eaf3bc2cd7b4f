"""`soar audit erase`: nothing of a person is left in any file of the store, and every proof stands."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from soar.cli.app import app
from soar.engine.scribe import Scribe
from soar.journal.trust import TrustPolicy
from soar.model.clock import SystemClock, UlidSource
from soar.model.entry import EntryType
from soar.model.run import Run, RunKind, RunState
from soar.service import assemble, read_key
from soar.settings import load_settings
from soar.store.port import Fact, FinishRun, InsertRun
from soar.store.sqlite import SqliteStore

from .operate_home import Home, as_bytes

WHY = ("--reason", "request 4711", "--as", "alice")
PERSON = "db-01"


@pytest.fixture
def ended(copy: Home) -> Home:
    """A home in which the run about `PERSON` has ended: isolated, seen through, taken back by nobody."""
    assert copy.soar("runs", "cancel", copy.run("server"), "--reason", "false alarm", "--as", "alice").code == 0
    copy.work()
    structlog.reset_defaults()
    return copy


def held(home: Home, word: str) -> list[Path]:
    """The files of the store that hold this word, in any case."""
    return [
        each for each in home.database.parent.glob("soar.db*") if word.encode().lower() in each.read_bytes().lower()
    ]


def test_what_is_erased_is_in_no_file_of_the_store_and_every_proof_stands(ended: Home, tmp_path: Path) -> None:
    assert held(ended, PERSON)
    before = ended.soar("audit", "prove", ended.run("server"))
    said = ended.soar("audit", "erase", "--subject", PERSON.upper(), *WHY, "--yes", "--json")
    assert said.code == 0, said.error
    assert said.json["entries"]
    assert not held(ended, PERSON)
    asyncio.run(sign(ended))
    verified = ended.soar("audit", "verify", "--json")
    assert verified.code == 0, verified.out
    assert verified.json["erased"] == len(said.json["entries"])
    trusted = tmp_path / "trusted"
    trusted.write_text(TrustPolicy.of([read_key(load_settings(ended.config, {})).verifier]).to_text())
    (tmp_path / "before").write_text(before.out)
    (tmp_path / "after").write_text(ended.soar("audit", "prove", ended.run("server"), "--payloads").out)
    assert ended.soar("audit", "export", str(tmp_path / "out"), "--payloads").code == 0
    for name in ("before", "after", "out"):
        assert checked(tmp_path / name, trusted) == 0, name


def checked(path: Path, policy: Path) -> int:
    return CliRunner().invoke(app, ["audit", "check", str(path), "--policy", str(policy)]).exit_code


async def sign(home: Home) -> None:
    async with assemble(load_settings(home.config, {})) as service:
        await service.sequencer().sign()


def test_what_others_said_stays_readable(ended: Home) -> None:
    ended.soar("audit", "erase", "--subject", PERSON, *WHY, "--yes")
    assert ended.soar("alerts", "show", ended.alert("server")).code == 0
    assert ended.soar("runs", "show", ended.run("server"), "--json").json
    assert ended.soar("alerts", "show", ended.alert("look"), "--json").json["alert"]["title"] == "Beacon from ws-17"


def test_the_journal_tells_who_erased_what_and_why_but_not_whom(ended: Home) -> None:
    said = ended.soar("audit", "erase", "--subject", PERSON, *WHY, "--yes", "--json")
    told = ended.soar("audit", "show", "--type", "payload.erased", "--limit", "999", "--json").json
    assert [each["subject"] for each in told] == said.json["entries"]
    assert {each["actor"] for each in told} == {"person:alice"}
    assert all(each["payload"] == {"reason": "request 4711"} for each in told)


def test_nothing_is_erased_while_a_run_needs_it(copy: Home) -> None:
    said = copy.soar("audit", "erase", "--subject", PERSON, *WHY, "--yes")
    assert said.code == 5
    assert copy.run("server") in said.error
    assert held(copy, PERSON)
    assert copy.soar("audit", "verify").code == 0


def test_nothing_is_erased_without_a_yes(ended: Home) -> None:
    said = ended.soar("audit", "erase", "--subject", PERSON, *WHY, say="n\n")
    assert said.code == 1
    assert held(ended, PERSON)


@pytest.mark.parametrize(
    ("subject", "reason", "why"),
    [("ab", "r", "too short"), (PERSON, f"for {PERSON}", "names the subject"), ("nobody-at-all", "r", "nothing in")],
)
def test_what_cannot_be_meant_is_refused(ended: Home, subject: str, reason: str, why: str) -> None:
    said = ended.soar("audit", "erase", "--subject", subject, "--reason", reason, "--as", "alice", "--yes")
    assert said.code == 2
    assert why in said.error


def test_raw_bytes_that_never_became_an_alert_are_erased(ended: Home) -> None:
    """Also where the store keeps them as base64."""
    ended.work({"broken": b"{not JSON, but of frodo@shire.example"})
    structlog.reset_defaults()
    before = len(ended.soar("deadletters", "list", "--json").json)
    assert ended.soar("audit", "erase", "--subject", "frodo@shire.example", *WHY, "--yes").code == 0
    assert len(ended.soar("deadletters", "list", "--json").json) == before - 1


def test_text_is_found_however_json_spells_it(ended: Home) -> None:
    ended.work({"odd": as_bytes({"id": "z-1", "rule_id": "none", "title": 'CORP\\Éowyn "x"', "severity": "low"})})
    structlog.reset_defaults()
    assert ended.soar("audit", "erase", "--subject", "corp\\éowyn", *WHY, "--yes").code == 0
    assert not held(ended, "owyn")


def test_a_missing_payload_that_no_entry_accounts_for_is_found(ended: Home) -> None:
    ended.soar("audit", "erase", "--subject", PERSON, *WHY, "--yes")
    with closing(sqlite3.connect(ended.database)) as db, db:
        (victim,) = db.execute("SELECT entry_id FROM payloads JOIN entries ON id = entry_id ORDER BY idx").fetchone()
        db.execute("DELETE FROM payloads WHERE entry_id = ?", (victim,))
    said = ended.soar("audit", "verify", "--json")
    assert said.code == 1
    assert said.json["first_bad"]["id"] == victim
    assert "its payload is missing" in said.json["findings"][0]["message"]


def test_an_erased_payload_that_comes_back_is_found(ended: Home) -> None:
    taken = ended.soar("audit", "erase", "--subject", PERSON, *WHY, "--yes", "--json").json["entries"]
    with closing(sqlite3.connect(ended.database)) as db, db:
        db.execute("INSERT INTO payloads SELECT ?, salt, body FROM payloads LIMIT 1", (taken[0],))
    said = ended.soar("audit", "verify", "--json")
    assert said.code == 1
    assert any("was erased, but it is there" in each["message"] for each in said.json["findings"])


async def test_state_of_the_run_keeps_all_but_the_name(tmp_path: Path) -> None:
    """Values beside the name, numbers and structure stay."""
    store = SqliteStore(tmp_path / "soar.db")
    await store.open()
    try:
        run = Run(
            id="run-1",
            kind=RunKind.MANUAL,
            state=RunState.READY,
            playbook_id="p",
            playbook_digest="d",
            vars={"host": "Bilbo-PC", "count": 3, "list": ["bilbo", "sam"]},
            lock_key="host:bilbo-pc",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        await store.commit([Fact(writes=(InsertRun(run=run),))])
        await store.lease(owner="w", until=datetime(2099, 1, 1, tzinfo=UTC), limit=1)
        end = FinishRun(run_id="run-1", state=RunState.SUCCEEDED, at=datetime(2026, 1, 2, tzinfo=UTC))
        assert await store.commit([Fact(writes=(end,))]) == [None]
        scribe = Scribe(clock=SystemClock(), ids=UlidSource())
        found = await store.erase("BILBO", lambda name: scribe.entry(EntryType.PAYLOAD_ERASED, name))
        assert (found.runs, found.entries) == (("run-1",), ())
        left = await store.run("run-1")
        assert left is not None
        assert left.vars == {"host": "(erased)", "count": 3, "list": ["(erased)", "sam"]}
        assert left.lock_key == "(erased)"
    finally:
        await store.close()
