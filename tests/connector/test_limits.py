"""Limits of an instance: what the connector says, unless `soar.yaml` says otherwise; each mistake with its place."""

from pathlib import Path
from typing import Any

import pytest

from soar.errors import ConfigError
from soar.model.clock import SystemClock
from soar.model.limits import Limits
from soar.service import build_registry
from soar.settings import load_settings

CONNECTOR = "http, config: {base_url: 'https://x.example', allow_private: true}"


def limits_in(tmp_path: Path, limits: str, use: str = CONNECTOR) -> dict[str, Limits]:
    """What the engine sees of `limits: ...` of the instance `it`."""
    file = tmp_path / "soar.yaml"
    file.write_text(f"connectors:\n  it: {{use: {use}, limits: {limits}}}\n")
    return build_registry(load_settings(file, {}), SystemClock()).catalogue().limits


def test_every_limit_is_optional_and_none_is_no_limit(tmp_path: Path) -> None:
    assert limits_in(tmp_path, "{}") == {}
    assert limits_in(tmp_path, "{concurrency: 5}") == {"it": Limits(concurrency=5)}
    assert limits_in(tmp_path, "{rate: 60/m, burst: 10}") == {"it": Limits(rate="60/m", burst=10)}


SPLUNK = "splunk, config: {base_url: 'https://x.example', token: 'secret://env/T'}"


def test_a_connector_knows_its_own_limits_and_the_instance_has_the_last_word(tmp_path: Path) -> None:
    assert limits_in(tmp_path, "{}", SPLUNK) == {"it": Limits(concurrency=3)}
    assert limits_in(tmp_path, "{rate: 5/s}", SPLUNK) == {"it": Limits(rate="5/s", concurrency=3)}
    assert limits_in(tmp_path, "{concurrency: 50}", SPLUNK) == {"it": Limits(concurrency=50)}
    assert limits_in(tmp_path, "{concurrency: null}", SPLUNK) == {}


WRONG: list[tuple[str, str, str]] = [
    ("{rate: 60}", ":2:", "rate"),
    ("{rate: 60 per minute}", ":2:", "write a whole number, / and one of s, m, h, d, such as 60/m"),
    ("{rate: 0/s}", ":2:", "'0/s' is no rate"),
    ("{rate: 1/w}", ":2:", "'1/w' is no rate"),
    ("{burst: 5}", ":2:", "a burst is part of a rate; add rate: 60/m, or remove it"),
    ("{rate: 1/s, burst: 0}", ":2:", "'burst'"),
    ("{concurrency: 0}", ":2:", "'concurrency'"),
    ("{concurrency: many}", ":2:", "concurrency"),
    ("{concurency: 5}", ":2:", "did you mean 'concurrency'?"),
]


@pytest.mark.parametrize(("limits", "place", "why"), WRONG)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, limits: str, place: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        limits_in(tmp_path, limits)
    assert f"soar.yaml{place}" in str(caught.value)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("rate", "seconds"), [("1/s", 1.0), ("60/m", 1.0), ("20/s", 0.05), ("1/d", 86400.0), ("7/s", 0.142858)]
)
def test_a_rate_is_never_rounded_up(rate: str, seconds: float) -> None:
    interval: Any = Limits(rate=rate).interval
    assert interval.total_seconds() == seconds
