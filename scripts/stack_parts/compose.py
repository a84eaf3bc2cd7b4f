"""The same parts from docker-compose.yml, where a Docker engine answers."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Sequence
from os import environ  # noqa: TID251 - this script runs before soar and its settings are installed

from .base import HOME, ROOT, say, setting_port
from .kafka import Kafka
from .opa import Opa
from .postgres import Postgres

VERBS = ("up", "down", "status", "env", "wipe")
PROJECT = ("docker", "compose", "--project-name", "soar-stack", "--file", str(ROOT / "docker-compose.yml"))


def engine_answers() -> bool:
    """Whether containers can be run here; SOAR_STACK_DOCKER=0 says not to."""
    if environ.get("SOAR_STACK_DOCKER") == "0" or not shutil.which("docker"):
        return False
    return all(_quietly(command) for command in (("docker", "info"), ("docker", "compose", "version")))


def run(verb: str, names: Sequence[str]) -> int:
    """Do `verb`; Compose prints its own progress and errors."""
    if verb == "env":
        print("\n".join(f"{name}={value}" for name, value in environment(names).items()))
        return 0
    if verb == "status":
        running = _compose("ps", "--services", "--filter=status=running", *names, quiet=True).stdout.split()
        for name in names:
            say(name, f"ready at {_address(name)} (Docker)" if name in running else "stopped")
        return 0 if set(names) <= set(running) else 1
    options = {
        "up": ("up", "--detach", "--wait"),
        "down": ("rm", "--stop", "--force"),
        "wipe": ("rm", "--stop", "--force", "--volumes"),
    }
    return _compose(*options[verb], *names).returncode


def environment(names: Sequence[str]) -> dict[str, str]:
    """The same variables as without Docker."""
    opa_binary = str(Opa().binary)  # `scripts/stack get opa` builds it here too
    variables = {
        "kafka": {"SOAR_STACK_KAFKA": _address("kafka")},
        "opa": {"SOAR_STACK_OPA": f"http://{_address('opa')}", "SOAR_STACK_OPA_BINARY": opa_binary},
        "postgres": {"SOAR_STACK_POSTGRES": f"postgresql://soar:{_password()}@{_address('postgres')}/soar"},
    }
    return {name: value for part in names for name, value in variables[part].items()}


def _address(name: str) -> str:
    ports = {part.name: part.default_ports[0] for part in (Kafka, Opa, Postgres)}
    return f"127.0.0.1:{setting_port(name, ports[name])}"


def _compose(*arguments: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    env = {**environ, "POSTGRES_PASSWORD": _password()}
    output = subprocess.PIPE if quiet else None
    return subprocess.run([*PROJECT, *arguments], env=env, stdout=output, text=True, check=False)


def _password() -> str:
    file = HOME / "docker-postgres-password"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16))
    return file.read_text()


def _quietly(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
