"""From the bytes of a record to JSON objects, within bounds.

What comes in is written by strangers. So that nothing behind this door has to think of it again: text is UTF-8,
objects have no duplicate keys, numbers are finite, nesting and size are bounded, and strings hold no lone surrogates.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson

from soar.errors import RecordError

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_ELEMENTS = 10_000  # of one record; each may become an alert of several kilobytes

# RFC 8785 (and every reader that keeps numbers as doubles) holds integers up to 2**53 - 1.
_MAX_INTEGER = (1 << 53) - 1
_MAX_DIGITS = 400
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 16  # more digits than a double surely holds, where each is written as 0
_BEFORE_NUMBERS = b":,[- \t\r\n"
# A string, also an unfinished one (possessive, so that hostile text costs one pass), or a bracket outside of strings.
_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


def parse(value: bytes) -> Any:
    """The JSON value in the bytes of a record; raises RecordError, its code saying what is wrong.

    An integer beyond 2**53 - 1 becomes its decimal text, digit for digit, and a lone surrogate becomes U+FFFD:
    canonical JSON can hold neither, and one hostile field must not keep an alert from being seen.
    """
    if len(value) > MAX_BYTES:
        raise RecordError(f"is {len(value)} bytes; at most {MAX_BYTES} are read", "too_large")
    document = _quick(value)
    return _careful(value) if document is None else document


def _quick(value: bytes) -> Any:
    """What `_careful` would give, in a fourth of its time; None where that is not certain.

    Each member of an object has a colon besides those in its text. So where a reader that keeps the last of two members
    of one name writes as many colons as it read, it has dropped none; but for escaped ones, which it writes out.
    """
    try:
        document = orjson.loads(value)
        written = orjson.dumps(document)
    except (ValueError, TypeError):  # it is no JSON, or nested deeper than it writes
        return None
    if not isinstance(document, dict | list) or written.count(b":") != value.count(b":") or b"\\u003" in value:
        return None
    if _has_long_number(value):
        return None
    shallow = value.count(b"{") + value.count(b"[") <= MAX_DEPTH
    return document if shallow or not _deeper(document, MAX_DEPTH) else None


def _has_long_number(value: bytes) -> bool:
    """Whether a number of many digits is in a JSON text; a string may be taken for one, never one for a string."""
    zeros = value.translate(_DIGITS)
    place = zeros.find(_LONG_NUMBER)
    while place >= 0:
        if zeros[place - 1] in _BEFORE_NUMBERS:
            return True
        place = zeros.find(_LONG_NUMBER, place + len(_LONG_NUMBER))
    return False


def _deeper(document: Any, depth: int) -> bool:
    """Whether objects and arrays lie deeper in each other than this."""
    level = [document]
    for _ in range(depth):
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _careful(value: bytes) -> Any:
    """The same with a word for everything that is wrong, and for numbers and characters that few payloads hold."""
    try:
        text = value.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        raise RecordError(f"is not UTF-8 (byte {failure.start}); send UTF-8", "not_utf8") from failure
    _bound_depth(text)
    try:
        document = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_number,
            parse_int=_integer,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as failure:
        cut = "ends too early" if failure.pos >= len(text.rstrip()) or "Unterminated" in failure.msg else "is no JSON"
        place = f"line {failure.lineno}, column {failure.colno}"
        raise RecordError(f"{cut}: {failure.msg} at {place}", "not_json") from failure
    return _without_surrogates(document) if _SURROGATE_ESCAPE.search(text) else document


def objects(document: Any) -> list[Any]:
    """The elements of a record: an object is one, an array is each of its elements; raises RecordError for others."""
    if isinstance(document, dict):
        return [document]
    if not isinstance(document, list):
        raise RecordError(f"is {kind_of(document)}; send a JSON object or an array of objects", "not_an_object")
    if not document:
        raise RecordError("is an empty array; there is no alert in it", "empty")
    if len(document) > MAX_ELEMENTS:
        raise too_many()
    return document


def too_many() -> RecordError:
    """A record of more elements than are read: the whole of it waits as one dead letter."""
    return RecordError(f"holds more than {MAX_ELEMENTS} alerts; send smaller batches", "too_many")


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    words = {bool: "true or false", str: "text", int: "a number", float: "a number", list: "an array"}
    return words.get(type(value), "an object")


def _bound_depth(text: str) -> None:
    """Checked before parsing, because the parser itself recurses."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _BRACKETS.finditer(text):
        bracket = match.group()
        if bracket in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise RecordError(f"is nested deeper than {MAX_DEPTH} levels", "too_deep")
        elif bracket in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RecordError(f"holds the key {twice[:80]!r} twice in one object", "duplicate_key")
    return result


def _integer(digits: str) -> int | str:
    if len(digits) < 16:
        return int(digits)
    if len(digits) > _MAX_DIGITS:
        raise RecordError(f"holds a number of {len(digits)} digits; at most {_MAX_DIGITS} are read", "bad_number")
    number = int(digits)
    return number if -_MAX_INTEGER <= number <= _MAX_INTEGER else digits


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise RecordError(f"holds the number {digits[:40]}, which is out of range", "bad_number")
    return number


def _constant(word: str) -> Any:
    raise RecordError(f"holds {word}, which is no JSON number", "bad_number")


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_SURROGATE.sub("\ufffd", key): _without_surrogates(item) for key, item in value.items()}
    return value
