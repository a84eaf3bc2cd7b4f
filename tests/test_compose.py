"""The container files keep the promises that can be checked without a Docker engine."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from soar.settings import PolicySettings

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
STACK_PARTS = ROOT / "scripts" / "stack_parts"

ONCE = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
"""What does its work and ends, before others start."""

each_service = pytest.mark.parametrize("name", SERVICES)
each_server = pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONCE))


def is_pinned(image: str) -> bool:
    return bool(re.fullmatch(r"[\w./-]+:\d+\.\d+\.?\d*[\w.-]*", image))


@each_service
def test_the_image_is_pinned(name: str) -> None:
    assert is_pinned(SERVICES[name]["image"])


def test_the_base_images_are_pinned_and_one() -> None:
    bases = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
    assert len(bases) == 1
    assert all(is_pinned(base) for base in bases)


def test_a_floating_tag_is_not_taken_for_a_pin() -> None:
    assert not any(is_pinned(image) for image in ("postgres", "postgres:latest", "postgres:15", "a/b:edge"))


@each_server
def test_its_health_is_checked(name: str) -> None:
    assert "healthcheck" in SERVICES[name] or ("build" in SERVICES[name] and "\nHEALTHCHECK " in DOCKERFILE)


@each_server
def test_it_is_published_on_loopback_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])


@each_service
def test_it_can_gain_no_privileges(name: str) -> None:
    assert "no-new-privileges:true" in SERVICES[name]["security_opt"]
    assert not {"privileged", "pid", "cap_add"} & SERVICES[name].keys()
    assert SERVICES[name].get("network_mode", "none") == "none"
    assert not any("docker.sock" in volume for volume in SERVICES[name].get("volumes", ()))


def test_soar_runs_without_rights() -> None:
    soar = SERVICES["soar"]
    assert (soar["read_only"], soar["cap_drop"]) == (True, ["ALL"])
    assert soar["tmpfs"][0].startswith("/tmp:")
    assert "soar-data:/var/lib/soar" in soar["volumes"]


def test_soar_waits_for_healthy_servers() -> None:
    waits = SERVICES["soar"]["depends_on"]
    assert waits.keys() == SERVICES.keys() - {"soar"}
    for name, wait in waits.items():
        assert wait["condition"] == ("service_completed_successfully" if name in ONCE else "service_healthy")


def test_opa_reads_the_bundle_that_soar_wrote_of_the_policies_that_it_pins() -> None:
    """Nobody but the exporter writes it; both soars see the same policies, and cannot change them."""
    volumes = {name: service.get("volumes", []) for name, service in SERVICES.items()}
    assert [name for name in SERVICES if any(v.startswith("bundle:") for v in volumes[name])] == ["opa", "bundle"]
    assert "bundle:/bundle:ro" in volumes["opa"]
    assert SERVICES["opa"]["command"][-2:] == ["--bundle", "/bundle"]
    exporter, soar = SERVICES["bundle"], SERVICES["soar"]
    assert exporter["command"] == ["policy", "export", "/var/lib/soar-bundle", "/policies"]
    assert "bundle:/var/lib/soar-bundle" in volumes["bundle"]
    assert "--owner=10001" in re.findall(r"install .* /var/lib/soar-bundle$", DOCKERFILE, re.MULTILINE)[0]
    assert exporter["image"] == soar["image"]
    for name in ("bundle", "soar"):
        assert "./policies:/policies:ro" in volumes[name]
    environment = {key: value for key, value in soar["environment"].items() if key.startswith("SOAR_POLICY__")}
    policy = {key.removeprefix("SOAR_POLICY__").lower(): value for key, value in environment.items()}
    assert PolicySettings.model_validate(policy).url == "http://opa:8181"


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users == [SERVICES["soar"]["user"]]
    assert int(users[-1].split(":")[0]) > 0


def test_the_final_stage_has_no_build_tools() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "pip uninstall" in final
    assert not re.search(r"pip install|apt-get|gcc", final)


def test_no_secret_is_written_down() -> None:
    assert "${POSTGRES_PASSWORD:?" in SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"]


@pytest.mark.parametrize(("service", "module"), [("kafka", "kafka.py"), ("opa", "opa.py")])
def test_the_versions_are_those_of_scripts_stack(service: str, module: str) -> None:
    """Tests without Docker must meet the server that production has."""
    pinned = re.search(r'^VERSION = "(.+)"$', (STACK_PARTS / module).read_text(), re.MULTILINE)
    assert pinned
    assert re.fullmatch(rf".*:{re.escape(pinned[1])}(-static)?", SERVICES[service]["image"])


def test_what_the_image_copies_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for source in line.split()
    }
    assert copied == kept


def compose_is_installed() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not compose_is_installed(), reason="docker compose is not installed; it would read the file here")
def test_compose_itself_accepts_the_file() -> None:
    command = ["docker", "compose", "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"]
    done = subprocess.run(
        command, env={**os.environ, "POSTGRES_PASSWORD": "x"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
