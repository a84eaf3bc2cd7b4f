"""scripts/stack starts real servers that real clients can use, and ends only what it started."""

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

STACK = Path(__file__).resolve().parents[1] / "scripts" / "stack"


def stack(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(STACK), *arguments]
    return subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False)


async def test_kafka_gives_back_what_was_produced(kafka: str) -> None:
    topic, values = f"stack-{uuid.uuid4().hex}", [b"first", b"second", b"third"]
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, group_id=topic, auto_offset_reset="earliest")
    async with consumer:
        assert [(await consumer.getone()).value for _ in values] == values
        await consumer.commit()


async def test_opa_evaluates_a_policy(opa: str) -> None:
    module, policy = f"stack_{uuid.uuid4().hex}", "sum := input.a + input.b"
    async with httpx.AsyncClient(base_url=opa, trust_env=False) as client:
        (await client.put(f"/v1/policies/{module}", content=f"package {module}\n{policy}")).raise_for_status()
        try:
            answer = await client.post(f"/v1/data/{module}/sum", json={"input": {"a": 2, "b": 3}})
        finally:
            await client.delete(f"/v1/policies/{module}")
    assert answer.json() == {"result": 5}


def test_opa_program_runs_policy_tests(opa_binary: Path, tmp_path: Path) -> None:
    (tmp_path / "p_test.rego").write_text("package p\nimport rego.v1\ntest_holds if 1 + 1 == 2\n")
    done = subprocess.run([opa_binary, "test", tmp_path, "--format=json"], capture_output=True, check=False)
    assert (done.returncode, [case["name"] for case in json.loads(done.stdout)]) == (0, ["test_holds"])


def psql(dsn: str, statement: str) -> str:
    command = ["psql", "--no-psqlrc", "-qtA", dsn, "-c", statement]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_postgres_answers_and_keeps_its_promises_on_disk(postgres: str) -> None:
    """Durability tests against this server mean something only if it really syncs."""
    assert psql(postgres, "SELECT 1") == "1"
    settings = ("fsync", "full_page_writes", "synchronous_commit")
    assert [psql(postgres, f"SHOW {name}") for name in settings] == ["on", "on", "on"]


def test_postgres_refuses_a_wrong_password(postgres: str) -> None:
    wrong = postgres.replace("soar:", "soar:x", 1)
    done = subprocess.run(["psql", "--no-psqlrc", wrong, "-c", "SELECT 1"], capture_output=True, text=True, check=False)
    assert "password authentication failed" in done.stderr


@pytest.mark.usefixtures("kafka", "opa", "postgres")
def test_up_again_starts_nothing_new() -> None:
    before, again, after = stack("status"), stack("up"), stack("status")
    assert (before.returncode, again.returncode) == (0, 0)
    assert before.stdout.count("ready at") == 3
    assert after.stdout == before.stdout


@pytest.fixture
def other_home(opa_binary: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A second stack with a folder and a port of its own, which shares the OPA that is built already."""
    folder = tmp_path / "opa" / opa_binary.parent.name
    folder.mkdir(parents=True)
    (folder / "opa").symlink_to(opa_binary)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    env = {"SOAR_STACK_HOME": str(tmp_path), "SOAR_STACK_OPA_PORT": port, "SOAR_STACK_DOCKER": "0"}
    yield env
    stack("down", env=env)


def test_a_part_comes_up_is_known_and_goes_down(other_home: dict[str, str]) -> None:
    assert stack("status", "opa", env=other_home).returncode == 1
    assert stack("up", "opa", env=other_home).returncode == 0
    assert f"ready at 127.0.0.1:{other_home['SOAR_STACK_OPA_PORT']}" in stack("status", "opa", env=other_home).stdout
    assert "stopped" in stack("down", "opa", env=other_home).stdout
    assert "was not running" in stack("down", "opa", env=other_home).stdout


def test_a_recycled_pid_is_never_signalled(other_home: dict[str, str]) -> None:
    """The pid file's process has ended and its number now belongs to a stranger, here to `sleep`."""
    assert stack("up", "opa", env=other_home).returncode == 0
    pid_file = Path(other_home["SOAR_STACK_HOME"], "opa", "pid.json")
    record = json.loads(pid_file.read_text())
    os.kill(record["pid"], signal.SIGTERM)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        pid_file.write_text(json.dumps(record | {"pid": stranger.pid}))
        assert "was not running" in stack("down", "opa", env=other_home).stdout
        assert stranger.poll() is None
        stranger.kill()


def test_a_taken_port_is_named_with_its_remedy(other_home: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(other_home["SOAR_STACK_OPA_PORT"])))
        taken.listen()
        done = stack("up", "opa", env=other_home)
    assert done.returncode == 1
    assert f"port {other_home['SOAR_STACK_OPA_PORT']} cannot be used" in done.stderr
    assert "SOAR_STACK_OPA_PORT" in done.stderr


def test_a_server_that_does_not_come_up_is_reported_with_its_log(other_home: dict[str, str]) -> None:
    program = next(Path(other_home["SOAR_STACK_HOME"], "opa").glob("*/opa"))
    program.unlink()
    program.write_text("#!/bin/sh\necho the disk is made of cheese; sleep 1; exit 3\n")
    program.chmod(0o755)
    done = stack("up", "opa", env=other_home)
    assert done.returncode == 1
    assert "the process has ended" in done.stderr
    assert "the disk is made of cheese" in done.stderr


@pytest.mark.parametrize("arguments", [["up", "rabbit"], ["dance"], []])
def test_a_wrong_command_line_exits_2(arguments: list[str]) -> None:
    assert stack(*arguments).returncode == 2


@pytest.mark.parametrize(("ci", "summary", "code"), [("", "2 skipped in", 0), ("true", "2 errors in", 1)])
def test_what_cannot_be_had_skips_and_in_ci_fails_saying_why(tmp_path: Path, ci: str, summary: str, code: int) -> None:
    """By fixture and by marker alike. The part is refused here by a port that no user may have."""
    asks = "import pytest\ndef test_fixture(kafka): ...\n@pytest.mark.kafka\ndef test_marker(): ...\n"
    (tmp_path / "test_asks.py").write_text(asks)
    env = {"CI": ci, "SOAR_STACK_HOME": str(tmp_path), "SOAR_STACK_KAFKA_PORT": "80", "SOAR_STACK_DOCKER": "0"}
    command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "conftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(tmp_path)],
        cwd=STACK.parents[1],
        env={**os.environ, **env, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert summary in done.stdout
    assert "`scripts/stack up kafka` failed: kafka: SOAR_STACK_KAFKA_PORT is '80'" in done.stdout
    assert done.returncode == code
