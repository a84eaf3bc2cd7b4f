"""`soar doctor`: whatever is broken, every check reports, says what to do, and no other check suffers."""

import asyncio
import json
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from soar.cli.doctor import CHECKS
from soar.store.sqlite.evidence import GUARDS, open_evidence

from .study_home import Home, Said, copy_of, first_home


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return first_home(tmp_path_factory.mktemp("doctor") / "home")


@pytest.fixture
def home(original: Home, tmp_path: Path) -> Home:
    """A home with a store, whose ports nobody else uses."""
    home = copy_of(original, tmp_path / "home")
    home.change(web={"port": 0}, lab={"port": 0})
    return home


def states(said: Said) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in json.loads(said.out):
        found.setdefault(line["check"], set()).add(line["state"])
    return found


def lines(home: Home, check: str) -> list[dict[str, str]]:
    return [line for line in home.soar("doctor", "--offline", "--json").json if line["check"] == check]


def test_a_healthy_home_passes_every_check_and_is_left_as_it_is(home: Home) -> None:
    before = home.store.read_bytes()
    said = home.soar("doctor", "--offline", "--json")
    assert said.code == 0, said.out
    assert states(said).keys() == {"config", *CHECKS}
    assert all("FAILED" not in found for found in states(said).values())
    assert home.store.read_bytes() == before
    assert "0 failed" in home.soar("doctor", "--offline").out


def test_a_wrong_configuration_is_told_with_its_places(home: Home) -> None:
    home.config.write_text("web: {prt: 1}\n")
    said = home.soar("doctor")
    assert said.code == 1
    assert f"{home.config}:1:7: unknown key 'prt'" in said.out


def test_everything_broken_at_once_is_all_told(home: Home) -> None:
    (home.folder / "keys" / "journal.key").chmod(0o644)
    home.store.write_bytes(b"rubbish" * 1000)
    (home.folder / "policies" / "main.rego").write_text("package soar.main\n\ndecision := {\n")
    (home.folder / "playbooks" / "odd.yaml").write_text("playbook: [\n")
    (home.folder / "mappings" / "odd.yaml").write_text("name: odd\n")
    with socket.socket() as closed, socket.socket() as taken:
        closed.bind(("127.0.0.1", 0))
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        home.change(
            connectors={"desk": {"use": "lab_dsk"}},
            bindings={},
            people=[],
            web={"port": taken.getsockname()[1]},
            kafka={"bootstrap_servers": f"127.0.0.1:{closed.getsockname()[1]}", "topics": ["alerts"]},
        )
        said = home.soar("doctor", "--json")
        shown = home.soar("doctor", "--offline").out
    assert said.code == 1
    found = states(said)
    assert found.keys() == {"config", *CHECKS}
    broken = ("key", "store", "policy", "connectors", "playbooks", "mappings", "broker", "ports")
    assert all("FAILED" in found[check] for check in broken), found
    assert "warn" in found["people"]
    assert "this check itself failed" not in said.out
    assert "12 playbooks in force" in said.out, "one broken file keeps no other out"
    for words in ("chmod 600", "main.rego:", "odd.yaml:2:1", "did you mean 'lab_desk'?", "file is not a database"):
        assert words in shown
    assert "Traceback" not in shown


def test_missing_folders_are_named(home: Home) -> None:
    home.change(playbooks=["nowhere"], policy={"path": "nothing"})
    failed = [line["message"] for line in lines(home, "folders") if line["state"] == "FAILED"]
    assert failed == [
        f"playbooks: {home.folder / 'nowhere'} is no folder",
        f"policy: {home.folder / 'nothing'} is no folder",
    ]


def test_a_key_of_another_log_is_found_before_it_signs_nothing(home: Home) -> None:
    home.change(journal={"origin": "soar.local/other", "key": "keys/journal.key"})
    (line,) = lines(home, "key")
    assert line["state"] == "FAILED"
    assert line["fix"] == "set journal.origin to the key's name"


def test_a_store_without_its_triggers_is_suspicious(home: Home) -> None:
    with open_evidence(home.store) as evidence:
        assert evidence.guards() == GUARDS, "every trigger is looked for"
    with closing(sqlite3.connect(home.store)) as db:
        db.execute("DROP TRIGGER entries_stay")
    failed = [line for line in lines(home, "store") if line["state"] == "FAILED"]
    assert "entries_stay" in failed[0]["message"]
    assert failed[0]["fix"] == "run: soar audit verify"


def test_a_first_start_needs_no_store(home: Home) -> None:
    home.store.unlink()
    (line,) = lines(home, "store")
    assert line["state"] == "ok"
    assert "is made at the first start" in line["message"]


def test_a_token_that_cannot_be_had_is_found(home: Home) -> None:
    home.change(web={"port": 0, "ingest_tokens": {"*": "secret://env/NO_SUCH_VARIABLE_ANYWHERE"}})
    failed = [line for line in lines(home, "ports") if line["state"] == "FAILED"]
    assert "NO_SUCH_VARIABLE_ANYWHERE" in failed[0]["message"]


def test_the_broker_is_asked_for_the_topics(kafka: str, home: Home) -> None:
    home.change(kafka={"bootstrap_servers": kafka, "topics": ["no-such-topic-here"]})
    found = [line for line in home.soar("doctor", "--json").json if line["check"] == "broker"]
    assert [line["state"] for line in found] == ["warn"]
    assert "no topic no-such-topic-here" in found[0]["message"]


def test_the_doctor_tells_how_far_behind_the_group_is(kafka: str, home: Home) -> None:
    topic = f"doctor-{uuid4().hex[:8]}"

    async def produce() -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            for _ in range(3):
                await producer.send_and_wait(topic, b"{}")

    asyncio.run(produce())
    home.change(kafka={"bootstrap_servers": kafka, "topics": [topic], "group_id": topic})
    found = [line for line in home.soar("doctor", "--json").json if line["check"] == "broker"]
    assert [line["state"] for line in found] == ["ok", "ok"]
    assert found[1]["message"] == f"group {topic}: 3 records wait, most of them in {topic}/0"
