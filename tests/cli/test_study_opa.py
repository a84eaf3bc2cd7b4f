"""The configured OPA, as `soar config check`, `soar doctor` and `soar policy export` know it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from soar.policy.bundle import load_bundle

from ..policy.opa_server import serve  # noqa: TID252 - tests are no package that has another name
from .study_home import Home, make_home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    make_home(tmp_path / "home")
    home = Home(tmp_path / "home")
    home.change(web={"port": 0}, lab={"port": 0})
    return home


def decided_by(home: Home, **policy: Any) -> None:
    home.change(policy={"path": "policies", "engine": "opa", **policy})


def examined(home: Home, *words: str) -> list[tuple[str, str]]:
    """State and message of each line that doctor prints of policy."""
    lines = home.soar("doctor", "--json", *words).json
    return [(line["state"], line["message"]) for line in lines if line["check"] == "policy"]


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"url": "opa:8181"}, r"policy.url: 'opa:8181' is no address of an OPA server; write http"),
        ({"url": "http://opa:8181", "token": "secret://env/TOKEN_OF_A_TEST"}, r"policy.token: .* is not set"),
        ({"url": "http://opa:8181", "token": "value-itself"}, r"policy.token: a secret must be a reference"),
        ({"spawn": True}, r"policy.spawn: there is no program opa on PATH; install OPA 1.21.3 or newer"),
    ],
)
def test_what_cannot_be_had_is_named_with_its_place(
    home: Home, monkeypatch: pytest.MonkeyPatch, policy: dict[str, Any], says: str
) -> None:
    monkeypatch.setenv("PATH", "")
    decided_by(home, **policy)
    said = home.soar("config", "check")
    assert said.code == 1
    assert re.search(rf"soar\.yaml:\d+:\d+: {says}", " ".join((said.out + said.err).split()))
    assert "value-itself" not in said.out + said.err
    ((state, message),) = examined(home, "--offline")
    assert state == "FAILED"
    assert re.search(says, message)


def test_doctor_asks_the_configured_server(home: Home, opa_binary: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    assert home.soar("policy", "export", bundle).code == 0
    with serve(opa_binary, bundle) as url:
        decided_by(home, url=url)
        assert home.soar("config", "check").code == 0
        ((state, message),) = examined(home)
        assert (state, f"decided by OPA ({url})" in message) == ("ok", True)
        (home.folder / "policies/data/limits.yaml").write_text(
            (home.folder / "policies/data/limits.yaml").read_text() + "\n# another revision\n"
        )
        ((state, message),) = examined(home)
        assert (state, "give it that bundle (`soar policy export`)" in message) == ("FAILED", True)
    ((state, message),) = examined(home)
    assert (state, "cannot be reached" in message) == ("FAILED", True)
    ((state, message),) = examined(home, "--offline")
    assert (state, "not asked, as --offline" in message) == ("ok", True)


def test_doctor_warns_of_a_server_that_others_could_stand_in_for(home: Home) -> None:
    decided_by(home, url="http://opa.example:8181")
    assert [state for state, _ in examined(home, "--offline")] == ["warn", "ok"]


def test_doctor_spawns_the_opa_that_would_be(home: Home, opa_binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(opa_binary.parent))
    decided_by(home, spawn=True)
    ((state, message),) = examined(home)
    assert (state, f"decided by OPA ({opa_binary})" in message) == ("ok", True)


def test_what_is_exported_is_the_bundle_that_opa_serves(home: Home, opa_binary: Path, tmp_path: Path) -> None:
    """Also over what was exported before; never over anything else."""
    to = tmp_path / "bundle"
    revision = load_bundle(home.folder / "policies").revision
    for _ in range(2):
        said = home.soar("policy", "export", to)
        assert (said.code, revision[:12] in said.out) == (0, True)
        (to / "left.rego").write_text("package left\n")
    assert home.soar("policy", "export", to).code == 0
    assert not (to / "left.rego").exists()
    subprocess.run([opa_binary, "check", "--strict", "--bundle", to], check=True, capture_output=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").write_text("mine")
    said = home.soar("policy", "export", tmp_path / "mine")
    assert said.code != 0
    assert (tmp_path / "mine/notes").read_text() == "mine"
