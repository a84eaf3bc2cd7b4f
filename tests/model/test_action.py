"""Requests and attempts as they are written out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from soar.model.action import ActionRequest, Attempt, AttemptState
from soar.model.base import digest

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def a_request(**params: Any) -> ActionRequest:
    return ActionRequest(
        run_id="run-1",
        path="s",
        step_id="s",
        connector="lab_edr",
        instance="edr",
        connector_version="1",
        verb="isolate",
        effect="idempotent",
        risk="contain",
        impact="reversible",
        params=params,
        idempotency_key="k",
    )


def an_attempt(request: ActionRequest) -> Attempt:
    return Attempt(
        run_id="run-1", path="s", number=1, state=AttemptState.INTENDED, request=request, epoch=1, intended_at=NOW
    )


@pytest.mark.parametrize(
    "params", [{}, {"host": "ws-1"}, {"n": 1.5, "big": 2**53 - 1}, {"\u00e9\x00": ["\x1f\x01", None, {"a": True}]}]
)
def test_an_attempt_is_read_as_it_was_written_in_every_state(params: dict[str, Any]) -> None:
    attempt = an_attempt(a_request(**params))
    assert attempt.request.digest == digest(attempt.request.model_dump(mode="json"))
    ended = attempt.model_copy(update={"state": AttemptState.UNKNOWN, "finished_at": NOW, "error": "no \u00e4nswer"})
    for one in (attempt, ended):
        assert Attempt.model_validate_json(one.text()) == one


def test_a_changed_copy_of_a_request_keeps_nothing_that_was_derived_from_the_first() -> None:
    """What policy masks must not come back by a text that was written before."""
    request = a_request(password="secret")
    before = request.digest
    masked = request.model_copy(update={"params": {"password": "[redacted]"}})
    assert masked.digest != before
    assert b"secret" not in masked.text
    assert orjson.loads(request.text)["params"] == {"password": "secret"}


def test_what_json_does_not_keep_exactly_has_no_text() -> None:
    for value in (float("nan"), 2**60):
        with pytest.raises(ValueError):  # noqa: PT011 - whichever says no
            _ = a_request(n=value).text
