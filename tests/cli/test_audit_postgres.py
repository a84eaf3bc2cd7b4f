"""`soar audit` on a database: the same questions, the same answers as on a file."""

from __future__ import annotations

import csv
import io
import json
import secrets
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from soar.cli.app import app
from soar.journal.trust import TrustPolicy
from soar.service import read_key
from soar.settings import load_settings

from .operate_home import Home, fill
from .postgres_home import lodge, schema, told

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    """A schema of its own."""
    with schema(postgres) as home:
        yield home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, dsn: str) -> Home:
    """A home on a database, with every alert answered as far as it goes. Look, do not touch."""
    return fill(lodge(tmp_path_factory.mktemp("home"), dsn))


@pytest.fixture
def dirty(home: Home, dsn: str) -> Iterator[str]:
    """The same database for somebody who changes it; afterwards it is as it was."""
    schema = dsn.rsplit("=", 1)[1]
    tables = [row[0] for row in told(dsn, f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'")]
    kept = f"kept_{secrets.token_hex(4)}"
    copies = "; ".join(f"CREATE TABLE {kept}.{name} AS TABLE {schema}.{name}" for name in tables)
    told(dsn, f"CREATE SCHEMA {kept}; {copies}")
    yield dsn
    back = [f"DELETE FROM {schema}.{name}; INSERT INTO {schema}.{name} TABLE {kept}.{name}" for name in tables]
    told(dsn, f"SET session_replication_role = replica; {'; '.join(back)}; DROP SCHEMA {kept} CASCADE")


def forge(dsn: str, change: str) -> None:
    """What a superuser can do: the triggers do not fire for a replica."""
    told(dsn, f"SET session_replication_role = replica; {change}")


def test_an_untouched_journal_verifies(home: Home) -> None:
    report = home.soar("audit", "verify", "--json").json
    assert report["ok"], report["findings"]
    assert report["covered"] == report["entries"] > 20


def test_status_tells_what_is_signed(home: Home) -> None:
    status = home.soar("audit", "status", "--json").json
    assert status["size"] == status["checkpoint_size"] > 20
    assert (status["exposed"], status["not_cosigned"], status["not_anchored"]) == (0, None, None)
    assert status["signed_up_to"]


def test_the_newest_entries_are_shown_with_their_payloads(home: Home) -> None:
    shown = home.soar("audit", "show", "--run", home.run("look"), "--json").json
    assert [each["run_seq"] for each in shown] == list(range(len(shown)))
    assert shown[0]["type"] == "run.created"
    intents = home.soar("audit", "show", "--type", "action.intent", "--limit", "2", "--json").json
    assert [each["type"] for each in intents] == ["action.intent"] * 2
    assert all(each["payload"]["request"] for each in intents)


def test_questions_are_answered_as_on_a_file(home: Home, filled: Home) -> None:
    """The same alerts make the same journal but for names and times."""

    def rows(where: Home, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = where.soar("audit", "query", *words, "--format", "json").json
        return found

    for words in (["--all"], ["--type", "action.outcome"], ["--what", "TICKET"], ["--when", "24h", "--who", "soar"]):
        for of in (home, filled):
            assert rows(of, *words)
        assert sorted(each["type"] for each in rows(home, *words)) == sorted(
            each["type"] for each in rows(filled, *words)
        )
    (decided,) = rows(home, "--type", "policy.decided", "--run", home.run("look"))
    found = rows(home, "--policy", decided["policy"][:12], "--run", home.run("look"))
    assert {"policy.decided", "action.intent", "action.outcome"} <= {each["type"] for each in found}
    assert rows(home, "--limit", "3") == rows(home, "--all")[-3:]
    assert rows(home, "--when", "1999-01-01..1999-12-31") == []
    table = list(csv.DictReader(io.StringIO(home.soar("audit", "query", "--all", "--format", "csv").out)))
    assert len(table) == len(rows(home, "--all"))
    events = [json.loads(line) for line in home.soar("audit", "query", "--format", "ocsf").out.splitlines()]
    assert len(events) == len(rows(home, "--type", "action.outcome"))


def test_exports_and_proofs_verify_without_the_database(home: Home, tmp_path: Path) -> None:
    trusted = tmp_path / "trusted"
    trusted.write_text(TrustPolicy.of([read_key(load_settings(home.config, {})).verifier]).to_text())
    (tmp_path / "entry").write_text(home.soar("audit", "prove", "7").out)
    (tmp_path / "run").write_text(home.soar("audit", "prove", home.run("look"), "--payloads").out)
    assert home.soar("audit", "export", str(tmp_path / "folder"), "--payloads").code == 0
    for name in ("entry", "run", "folder"):
        assert checked(tmp_path / name, trusted) == 0, name


def checked(path: Path, policy: Path) -> int:
    return CliRunner().invoke(app, ["audit", "check", str(path), "--policy", str(policy)]).exit_code


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE entries SET leaf = set_byte(leaf, 30, get_byte(leaf, 30) # 1) WHERE idx = 7", "entry 7"),
        ("UPDATE entries SET type = 'x' WHERE idx = 7", "the store says type 'x'"),
        ("DELETE FROM entries WHERE idx = 7", "entries 7 to 7 are missing"),
        ("UPDATE payloads SET body = body || ' ' WHERE entry_id = (SELECT id FROM entries WHERE idx = 0)", "payload"),
        ("UPDATE tree SET frontier = set_byte(frontier, 12, get_byte(frontier, 12) # 1)", "the stored frontier"),
        ("UPDATE alerts SET entry_id = 'entry-none' WHERE id = (SELECT min(id) FROM alerts)", "names the entry"),
        ("DELETE FROM runs WHERE id = (SELECT min(id) FROM runs)", "is not among the runs"),
        ("INSERT INTO payloads VALUES ('entry-none', '\\x00', '\\x00')", "a payload is kept for the entry entry-none"),
        ("UPDATE checkpoints SET size = size + 1 WHERE size = (SELECT max(size) FROM checkpoints)", "another size"),
        ("ALTER TABLE entries DISABLE TRIGGER ALL", "the trigger entries_are_final is missing or switched off"),
    ],
)
def test_whoever_changes_the_database_is_found_out(home: Home, dirty: str, change: str, message: str) -> None:
    forge(dirty, change)
    said = home.soar("audit", "verify", "--json")
    forge(dirty, "ALTER TABLE entries ENABLE TRIGGER ALL")
    assert said.code == 1
    assert any(message in each["message"] for each in said.json["findings"]), said.json["findings"]


@pytest.fixture
def as_service(home: Home, dsn: str, tmp_path: Path) -> Iterator[Home]:
    """The same home for the service's own role, which was granted what `grants.sql` says."""
    name, schema = f"role_{secrets.token_hex(4)}", dsn.rsplit("=", 1)[1]
    grants = resources.files("soar.store.postgres").joinpath("grants.sql").read_text()
    granted = grants.replace(':"role"', name).replace(':"schema"', schema)
    told(dsn, f"CREATE ROLE {name} LOGIN PASSWORD 'word'; {granted}")
    (tmp_path / "home").mkdir()
    guest = lodge(tmp_path / "home", f"postgresql://{name}:word@{dsn.split('@', 1)[1]}")
    document = json.loads(home.config.read_text())
    document["store"] = {"url": f"secret://file{guest.folder / 'database'}"}
    for part in ("journal.key", "token"):
        (guest.folder / part).write_text((home.folder / part).read_text())
        (guest.folder / part).chmod(0o600)
    guest.config.write_text(json.dumps(document))
    yield guest
    told(dsn, f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_role_that_may_not_delete_reads_everything_and_is_told_who_may(as_service: Home) -> None:
    assert as_service.soar("audit", "verify").code == 0
    for words in (["status"], ["show"], ["query"]):
        assert as_service.soar("audit", *words).code == 0
    for words in (["erase", "--subject", "db-01", "--reason", "r", "--as", "alice", "--yes"], ["archive"]):
        said = as_service.soar("audit", *words)
        assert said.code == 3
        assert "takes the owner of the tables, soar;" in said.error
        assert "SOAR_STORE__URL" in said.error
    assert as_service.soar("audit", "verify").code == 0


def test_a_database_without_a_store_is_said_so(home: Home, postgres: str, tmp_path: Path) -> None:
    name = f"test_{secrets.token_hex(6)}"
    told(postgres, f"CREATE SCHEMA {name}")
    (tmp_path / "empty").mkdir()
    empty = lodge(tmp_path / "empty", f"{postgres}?search_path={name}")
    document = json.loads(home.config.read_text())
    document["store"] = {"url": f"secret://file{empty.folder / 'database'}"}
    (empty.folder / "journal.key").write_text((home.folder / "journal.key").read_text())
    (empty.folder / "journal.key").chmod(0o600)
    empty.config.write_text(json.dumps(document))
    for command in ("verify", "status", "show", "query"):
        said = empty.soar("audit", command)
        assert said.code == 2, said
        assert "there is no store at postgresql://" in said.error
    assert told(postgres, f"SELECT count(*) FROM pg_tables WHERE schemaname = '{name}'") == [(0,)], "nothing was made"
    told(postgres, f"DROP SCHEMA {name} CASCADE")
