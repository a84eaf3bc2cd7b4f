"""Severities and times as products write them, brought to one scale and one clock."""

from datetime import UTC, datetime
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from soar.ingest import values
from soar.ingest.expressions import Expressions
from soar.ingest.severity import Reading
from soar.ingest.times import parse_time

WAZUH = {"0": "informational", "3": "low", "7": "medium", "12": "high", "15": "critical"}


def understood(value: Any, **scale: Any) -> tuple[str, int] | None:
    found = Reading.model_validate({"from": "x", **scale}).understand(value)
    return (found[0].value, found[1]) if found else None


@pytest.mark.parametrize(
    ("value", "severity"),
    [
        ("High", ("high", 70)),
        (" WARNING ", ("medium", 50)),
        ("fatal", ("critical", 90)),
        ("P1", ("critical", 90)),
        ("sev-5", ("informational", 10)),
        (["low", "HIGH", "x"], ("high", 70)),
        ("purple", None),
        ("", None),
        (3, None),  # a bare number says nothing without a scale
        (True, None),
        (None, None),
        ({}, None),
        ([], None),
    ],
)
def test_usual_words_need_no_list(value: Any, severity: tuple[str, int] | None) -> None:
    assert understood(value) == severity


@pytest.mark.parametrize(
    ("value", "severity"), [(1, ("high", 70)), ("2", ("medium", 50)), (1.0, ("high", 70)), (9, None)]
)
def test_words_of_a_product_may_be_numbers(value: Any, severity: tuple[str, int] | None) -> None:
    assert understood(value, words={"1": "high", "2": "medium"}) == severity


@pytest.mark.parametrize(
    ("scale", "value", "severity"),
    [
        ("0-100", 73, ("high", 73)),
        ("0-100", "40", ("medium", 40)),
        ("0-100", 400, ("critical", 100)),
        ("0-100", -1, ("informational", 0)),
        ("0-10", 8.4, ("critical", 84)),
        ("5-1", 1, ("critical", 100)),
        ("5-1", 5, ("informational", 0)),
        ("0-100", "NaN", None),
        ("0-100", "inf", None),
        ("0-100", "high", ("high", 70)),
    ],
)
def test_a_scale_is_straight_and_may_be_inverted(scale: str, value: Any, severity: tuple[str, int] | None) -> None:
    assert understood(value, scale=scale) == severity


@pytest.mark.parametrize(
    ("value", "severity"),
    [
        (0, ("informational", 0)),
        (3, ("low", 20)),
        (10, ("medium", 52)),
        (11.9, ("medium", 59)),
        (12, ("high", 60)),
        (15, ("critical", 90)),
        (99, ("critical", 90)),
        (-5, ("informational", 0)),
    ],
)
def test_bands_say_from_which_number_on_a_word_holds(value: float, severity: tuple[str, int]) -> None:
    assert understood(value, bands=WAZUH) == severity


@given(st.floats(-5, 20), st.floats(-5, 20))
def test_bands_keep_the_order_of_numbers(one: float, other: float) -> None:
    low, high = sorted((one, other))
    first, second = understood(low, bands=WAZUH), understood(high, bands=WAZUH)
    assert first
    assert second
    assert first[1] <= second[1]


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2024-05-30 08:55:35 (UTC)", "2024-05-30T08:55:35"),
        ("2024-05-30 08:55:35 UTC", "2024-05-30T08:55:35"),
        ("2024-05-30 08:55:35", "2024-05-30T08:55:35"),
        ("2024-05-30T10:55:35+0200", "2024-05-30T08:55:35"),
        ("2024-05-30 10:55:35 +0200", "2024-05-30T08:55:35"),
        ("2024-05-30 08:55:35 +0000 UTC", "2024-05-30T08:55:35"),
        ("2024-05-30T08:55:35.123456789Z", "2024-05-30T08:55:35.123456"),
        ("2024-05-24 00:26:57.000000000", "2024-05-24T00:26:57"),
        ("Thu, 30 May 2024 08:55:35 GMT", "2024-05-30T08:55:35"),
        (1717059335, "2024-05-30T08:55:35"),
        (1717059335.5, "2024-05-30T08:55:35.500000"),
        ("1717059335", "2024-05-30T08:55:35"),
        (1717059335123, "2024-05-30T08:55:35.123000"),
        (1717059335123456, "2024-05-30T08:55:35.123456"),
        ("1717059335123456789", "2024-05-30T08:55:35.123456"),
        ("0001-01-01T00:00:00Z", None),  # Go's zero time: Alertmanager's "not ended"
        ("1970-01-01 00:00:00.000000000", None),
        (0, None),
        (-1, None),
        (True, None),
        (5, None),
        ("yesterday", None),
        ("9" * 60, None),
        ("9999-12-31T23:59:59-12:00", None),
        ("", None),
        (None, None),
        ([], None),
    ],
)
def test_times(value: Any, moment: str | None) -> None:
    expected = datetime.fromisoformat(moment).replace(tzinfo=UTC) if moment else None
    assert parse_time(value) == expected


def test_a_mapping_may_name_further_formats() -> None:
    assert parse_time("30/05/2024 08.55", ["%d/%m/%Y %H.%M"]) == datetime(2024, 5, 30, 8, 55, tzinfo=UTC)
    assert parse_time("30/05/2024 08.55") is None


@given(st.text(max_size=80) | st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_no_value_makes_a_time_fail(value: Any) -> None:
    moment = parse_time(value)
    assert moment is None or moment.tzinfo is UTC


PATHS = [
    "a",
    "a.b",
    '"a.b".c',
    "a[0]",
    "a[].b",
    "a[?b=='x'].c",
    "a.*.b",
    "a[].b | [0]",
    "a || b",
    "[a, b][]",
    "length(a)",
]
documents = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from(["x", "y"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c", "a.b"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(PATHS), st.dictionaries(st.sampled_from(["a", "b", "a.b"]), documents, max_size=3))
def test_expressions_mean_what_jmespath_says(source: str, scope: dict[str, Any]) -> None:
    """Walking plain paths directly is quicker, never different."""
    (getter,) = TypeAdapter(Expressions).validate_python(source)
    try:
        expected = jmespath.search(source, scope)
    except jmespath.exceptions.JMESPathError:
        expected = None
    assert getter.get(scope) == expected


@pytest.mark.parametrize(
    ("convert", "given", "kept"),
    [
        (values.email, "Bob <bob@example.com>", "bob@example.com"),
        (values.email, "bob@example.com", "bob@example.com"),
        (values.email, "bob", None),
        (values.email, "a@b c@d", None),
        (values.domain, "Evil.Example.COM.", "evil.example.com"),
        (values.domain, "10.0.0.1", None),
        (values.domain, "localhost", None),
        (values.pid, "4242", 4242),
        (values.pid, 346037607908199600, None),
        (values.pid, True, None),
        (values.sha256, "SHA256:" + "A" * 64, "a" * 64),
        (values.md5, "a" * 31, None),
        (values.md5, "0" * 32, None),
        (values.sha1, 7, None),
        (values.name, False, None),
        (values.name, 7, "7"),
        (values.name, {"a": 1}, None),
        (values.label, [True, None, "x", {}], "true, x"),
        (values.block, "a\r\nb\x1b[0m", "a\nb[0m"),
    ],
)
def test_values_are_kept_clean_or_not_at_all(convert: Any, given: Any, kept: Any) -> None:
    assert convert(given) == kept
