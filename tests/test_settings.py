"""Configuration: one file and the environment, each mistake with its place and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from soar.errors import ConfigError
from soar.settings import load_settings

WRONG = [
    ("web: {prot: 1}", "soar.yaml:1:7: unknown key 'prot'; did you mean 'port'?"),
    ("web: {port: 70000}", "soar.yaml:1:13: 'web.port': Input should be less than or equal to 65535, not 70000"),
    ("playbook: [x]", "soar.yaml:1:1: unknown key 'playbook'; did you mean 'playbooks'?"),
    ("- a", "soar.yaml: must hold names and values"),
    ("web: [", "soar.yaml:2:1: is no YAML: did not find expected node content"),
    ("people: [{name: a}, {name: a}]", "the person 'a' stands twice; keep one"),
    ("kafka: {topics: [a]}", "soar.yaml:1:8: 'kafka.bootstrap_servers' is missing; add it"),
    ("log: {level: loud}", "soar.yaml:1:14: 'log.level'"),
    ("policy: {engine: oap}", "soar.yaml:1:18: 'policy.engine'"),
    ("policy: {engine: opa}", "engine: opa takes either spawn: true, or the url of a server"),
    ("policy: {engine: opa, spawn: true, url: http://opa}", "engine: opa takes either spawn: true, or the url"),
    ("policy: {engine: opa, spawn: true, token: secret://env/T}", "a spawned OPA needs no token and no ca"),
    ("policy: {url: http://opa:8181}", "url is for an OPA server; write engine: opa too, or leave it out"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_mistake_is_named_with_place_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "soar.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(file, {})
    assert message in str(caught.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "soar.yaml"
    file.write_text("web: {prot: 1}\nlog: {level: loud}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(file, {})
    assert str(caught.value).count("soar.yaml:") == 2


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`soar init DIR` makes one"):
        load_settings(tmp_path / "soar.yaml", {})


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    file = tmp_path / "soar.yaml"
    file.write_text("")
    assert load_settings(file, {}).settings.web.port == 8787


def test_the_environment_overrides_single_values(tmp_path: Path) -> None:
    file = tmp_path / "soar.yaml"
    file.write_text("web: {port: 1, host: a}")
    environ = {
        "SOAR_WEB__PORT": "9000",
        "SOAR_KAFKA__TOPICS": "[x]",
        "SOAR_KAFKA__BOOTSTRAP_SERVERS": "k:9092",
        "X": "1",
    }
    settings = load_settings(file, environ).settings
    assert (settings.web.port, settings.web.host) == (9000, "a")
    assert settings.kafka is not None
    assert settings.kafka.topics == ("x",)


def test_an_environment_variable_for_nothing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "soar.yaml"
    file.write_text("")
    with pytest.raises(ConfigError, match="SOAR_WBE__PORT names no section 'wbe'"):
        load_settings(file, {"SOAR_WBE__PORT": "1"})


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    file = tmp_path / "soar.yaml"
    file.write_text("")
    loaded = load_settings(file, {})
    assert loaded.path(Path("playbooks")) == tmp_path / "playbooks"
    assert loaded.path(Path("/x")) == Path("/x")


CALENDAR = """
calendar:
  timezone: Europe/Berlin
  business_hours: [{days: [monday, friday], from: 08:00, to: 18:00}]
  holidays: [2026-12-25]
  freezes: [{name: year end, from: 2026-12-20T00:00:00Z, to: 2027-01-04T06:00:00Z}]
"""


def test_a_calendar_is_read(tmp_path: Path) -> None:
    file = tmp_path / "soar.yaml"
    file.write_text(CALENDAR)
    calendar = load_settings(file, {}).settings.calendar
    assert (calendar.business_hours[0].from_, calendar.business_hours[0].to) == ("08:00", "18:00")
    assert str(calendar.holidays[0]) == "2026-12-25"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Europe/Berlin", "Europe/Berlni", "3:13: 'calendar.timezone': 'Europe/Berlni' is no timezone"),
        ("18:00", "07:00", "past midnight, write two entries"),
        ("08:00", "8 o'clock", "4:.*from"),
        ("friday", "freitag", "4:.*days"),
        ("2026-12-25", "christmas", "5:.*holidays"),
        ("2027-01-04T06:00:00Z", "2026-01-04T06:00:00Z", "ends before it begins"),
        ("2026-12-20T00:00:00Z", "2026-12-20T00:00:00", "6:.*from"),
    ],
)
def test_a_calendar_that_makes_no_sense_is_refused_with_its_place(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    file = tmp_path / "soar.yaml"
    file.write_text(CALENDAR.replace(old, new))
    with pytest.raises(ConfigError, match=said):
        load_settings(file, {})
