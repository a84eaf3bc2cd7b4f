"""Strict YAML: what a file says is what a reader sees, and every error has a place."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from soar.errors import ConfigError
from soar.located import MAX_BYTES, explain, load

REFUSED = [
    ("a: 1\na: 2", "f:2:1: the key 'a' stands twice; keep one"),
    ("a: &x 1\nb: *x", "f:1:4: anchors and aliases are not allowed"),
    ("a: {b: [*x]}", "anchors and aliases are not allowed"),
    ("a: !!python/object:os.system {}", "f:1:4: the tag"),
    ("a: !mine 1", "f:1:4: the tag '!mine' is not allowed"),
    ("<<: {a: 1}", "f:1:1: merge keys (<<) are not allowed"),
    ("? [a, b]\n: 1", "f:1:3: a key must be plain text"),
    ("a: [1, 2", "is no YAML"),
    ("a: 1\n---\nb: 2", "is no YAML"),
    ("a: " + "[" * 60 + "]" * 60, "is nested deeper than 50 levels"),
    ("a: " + "x" * MAX_BYTES, f"at most {MAX_BYTES} are read"),
    ("a: \x07", "is no YAML"),
]

READ = [
    ("a: yes", {"a": "yes"}),
    ("a: on", {"a": "on"}),
    ("a: true", {"a": True}),
    ("a: ~", {"a": None}),
    ("a:", {"a": None}),
    ("a: 0777", {"a": "0777"}),
    ("a: 1:30", {"a": "1:30"}),
    ("a: 1e3", {"a": 1000.0}),
    ("a: -1", {"a": -1}),
    ("a: .5", {"a": 0.5}),
    ("a: 0x10", {"a": "0x10"}),
    ("a: 2026-01-02", {"a": "2026-01-02"}),
    ('a: "1"', {"a": "1"}),
    ("a: x && y", {"a": "x && y"}),
    ("a: .nan", {"a": ".nan"}),
    ("", None),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_is_not_strict_yaml_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text, "f", ConfigError)
    assert message in str(caught.value)
    assert str(caught.value).startswith("f")


@pytest.mark.parametrize(("text", "value"), READ)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    assert load(text, "f", ConfigError).value == value


def test_an_alias_bomb_is_refused_before_anything_is_built() -> None:
    bomb = "a: &a [x,x]\n" + "\n".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)}]" for i in range(20)
    )
    with pytest.raises(ConfigError, match="anchors and aliases"):
        load(bomb, "f", ConfigError)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    with suppress(ConfigError):
        load(text, "f", ConfigError)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    port: int = 1


def test_validation_errors_name_place_and_nearest_key() -> None:
    located = load("nmae: x\nport: high", "f", ConfigError)
    with pytest.raises(ValidationError) as caught:
        _Model.model_validate(located.value)
    found = sorted(str(problem) for problem in explain(caught.value, located, ConfigError, known=["name", "port"]))
    assert found == [
        "f:1:1: 'name' is missing; add it",
        "f:1:1: unknown key 'nmae'; did you mean 'name'?",
        "f:2:7: 'port': Input should be a valid integer, unable to parse string as an integer, not 'high'",
    ]
