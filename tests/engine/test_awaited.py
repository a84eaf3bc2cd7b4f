"""A key finds every wait that an alert may end, and few others."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soar.engine.awaited import EVERY, Awaited, key_of, keys_in
from soar.library.index import checks
from soar.model.playbook import Trigger
from soar.model.run import StepRecord, StepState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOST, RULE = "entities.hosts[].name", "rule.id"

values = st.sampled_from(["ws-1", "ws-2", "", "\x00", "\ud800", "1", 1, 1.0, True, None])
documents = st.builds(
    lambda names, rule: {"entities": {"hosts": [{"name": name} for name in names]}, "rule": {"id": rule}},
    st.lists(values, max_size=3),
    values,
)
wanted = st.sampled_from(["ws-1", "ws-2", "", "\x00", "\ud800", "1", 1, True])
matches = st.one_of(
    st.builds(lambda texts: {"any_of": texts}, st.lists(wanted, max_size=2)),
    st.just({"exists": True}),
    st.builds(lambda text: {"prefix": [text]}, st.sampled_from(["ws", ""])),
)
triggers = st.builds(
    Trigger.model_validate, st.fixed_dictionaries({"match": st.dictionaries(st.sampled_from([HOST, RULE]), matches)})
)


def trigger(**match: Any) -> Trigger:
    return Trigger.model_validate({"match": {name.replace("__", "."): value for name, value in match.items()}})


def a_wait(number: int, wanted: Trigger, key: str | None) -> StepRecord:
    data = {"phase": "alert", "trigger": wanted.model_dump(mode="json", exclude_none=True)}
    return StepRecord(
        run_id=f"run-{number}",
        path="again",
        kind="wait",
        state=StepState.WAITING,
        data=data if key is None else {**data, "awaits": key},
        started_at=NOW,
    )


def field_of(key: str) -> str:
    return key.partition(":")[0]


@given(wait=triggers, document=documents)
def test_a_wait_that_an_alert_ends_is_found_by_its_key(wait: Trigger, document: dict[str, Any]) -> None:
    """Otherwise the run would sleep through what it waits for."""
    if all(check.held for check in checks(wait, document)):
        key = key_of(wait, wait)
        assert key == EVERY or key in keys_in([document], [field_of(key)])
        assert Awaited([a_wait(1, wait, key)]).ended_by(document)


def test_a_text_of_the_run_is_the_key_and_one_of_the_file_only_where_there_is_no_other() -> None:
    written = trigger(source={"any_of": ["edr"]}, rule__id={"any_of": ["${{ alert.rule.id }}"]})
    rendered = trigger(source={"any_of": ["edr"]}, rule__id={"any_of": ["rule-7"]})
    assert field_of(key_of(rendered, written)) == b"rule.id".hex()
    assert field_of(key_of(trigger(source={"any_of": ["edr"]}), trigger(source={"any_of": ["edr"]}))) == b"source".hex()


@pytest.mark.parametrize("match", [{"any_of": ["a", "b"]}, {"any_of": [7]}, {"prefix": ["a"]}, {"exists": True}])
def test_a_wait_for_no_single_text_is_held_against_every_alert(match: dict[str, Any]) -> None:
    assert key_of(trigger(title=match), trigger(title=match)) == EVERY


def test_a_field_with_a_very_long_name_is_no_key() -> None:
    """A database's index refuses a key that is too long, and the run could not go on."""
    name = f"raw.{'a' * 3000}"
    assert key_of(trigger(**{name: {"any_of": ["x"]}}), trigger()) == EVERY


def test_an_alert_ends_a_wait_once_whatever_key_it_has() -> None:
    wanted = trigger(rule__id={"any_of": ["r"]})
    awaited = Awaited([a_wait(1, wanted, key_of(wanted, wanted)), a_wait(2, wanted, EVERY), a_wait(3, wanted, None)])
    document = {"rule": {"id": "r"}}
    assert {wait.run_id for wait in awaited.ended_by(document)} == {"run-1", "run-2", "run-3"}
    assert awaited.ended_by(document) == []
