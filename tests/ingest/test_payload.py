"""The quick reader of payloads never differs from the careful one; where it is not sure, it leaves them to it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soar.errors import RecordError
from soar.ingest import payload
from soar.ingest.payload import MAX_DEPTH, parse

# fmt: off
NUMBERS = [
    "0", "-0", "1", "-1", "12", "-0.0", "0.1", "1.5e3", "1E5", "1e-400", "1e400", "-1e999", "5e-324", "1.", "01", "+1",
    "0.30000000000000004", "1234567890.123456789", "999999999999999", "-999999999999999", "9007199254740991",
    "9007199254740992", "-9007199254740993", "18446744073709551616", "123456789012345678901234567890",
    "-12345678901234567", "12345678901234567.5", "0.00000000000000000001", "NaN", "-Infinity",
]
STRINGS = [
    '""', '"a"', '"b"', '"a:b"', '":"', r'"\u003a"', r'"\u003A"', r'"\u0061"', r'"\\u003a"', r'"\n"', r'"\u0000"',
    r'"\""', r'"\ud83d\ude00"', r'"\ud83d"', r'"\ude00x"', '"é"', '"😀"', '"{"', '"[["', '"]"', '"-0"', r'"\/"',
    r'"\x"', '"1234567890123456"', '"0000000000000000000"', '" 1234567890123456"', '":1234567890123456"',
]
# fmt: on
SPACES = st.sampled_from(["", "", "", " ", "\n", "\t", "\r\n", "\x0b"])
NAMES = st.sampled_from(STRINGS)


def joined(mark: str, ends: str, items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(items, max_size=4).map(lambda parts: ends[0] + mark.join(parts) + ends[1])


texts = st.recursive(
    st.sampled_from([*NUMBERS, *STRINGS, "null", "true", "false"]),
    lambda inner: (
        joined(",", "[]", st.tuples(SPACES, inner, SPACES).map("".join))
        | joined(",", "{}", st.tuples(SPACES, NAMES, SPACES, st.just(":"), SPACES, inner, SPACES).map("".join))
    ),
    max_leaves=12,
)


def careful(value: bytes) -> Any:
    try:
        return payload._careful(value)
    except RecordError as failure:
        return failure.code


@settings(max_examples=1500, deadline=None)
@given(texts, SPACES, st.sampled_from(["", "", "", "", "\ufeff", "x", "]", '{"a":1}']))
def test_both_readers_read_the_same(text: str, space: str, end: str) -> None:
    for value in (f"{space}{text}{space}".encode(), f"{text}{end}".encode(), f'{{"k":{text}}}'.encode()):
        found = payload._quick(value)
        assert found is None or repr(found) == repr(careful(value))  # repr tells 1 from 1.0, and 0.0 from -0.0


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        r'{"a":1,"\u0061":"\u003a"}',
        r'{"a":1,"a":"\u003a"}',
        r'{"a":1,"a":"\u003A"}',
        '{"a":{"b":":","b":"::"}}',
        '{"a":9007199254740993}',
        '{"a":[1, 12345678901234567890]}',
        '{"a":-9007199254740993}',
        '{"s":"0000000000000000","a":\n9007199254740993}',
        '{"a":1e999}',
        r'{"a":"\ud83d"}',
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
        '{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1),
        "[" * 300 + "]" * 300,
        '{"a":' * 300 + "1" + "}" * 300,
        "[" * 100_000 + "]" * 100_000,
        "7",
        '\ufeff{"a":1}',
    ],
)
def test_what_needs_care_is_not_read_quickly(text: str) -> None:
    assert payload._quick(text.encode()) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"b":{"a":1}}',
        '{"url": "https://host:443/a:b", "sha256": "' + "0" * 64 + '", "at": "2026-01-05 12:00:00"}',
        '[{"a":0.1},{"a":-5}]',
        "[" * MAX_DEPTH + "]" * MAX_DEPTH,
        '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH,
        "[" + ",".join(['{"a":[[]]}'] * 200) + "]",
    ],
)
def test_usual_payloads_are_read_quickly(text: str) -> None:
    assert payload._quick(text.encode()) == parse(text.encode()) == payload._careful(text.encode())
