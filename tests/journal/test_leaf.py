"""Leaves: exact bytes, a payload that can be forgotten, and nothing in them that cannot be proven."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soar.errors import JournalError
from soar.journal.leaf import LEAF_BYTES_MAX, keeps_promise, parse_leaf, payload_matches, seal
from soar.journal.merkle import leaf_hash
from soar.model.base import canonical
from soar.model.entry import Entry, EntryType

AT = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
PREVIOUS = "ab" * 32


def entry(**changes: Any) -> Entry:
    fields = {
        "id": "entry-1",
        "type": EntryType.ACTION_INTENT,
        "at": AT,
        "actor": "worker:a",
        "run_id": "run-1",
        "subject": "run-1",
        "data": {"step": "isolate", "number": 2, "dry": False},
        "payload": {"host": "pc-é", "score": 0.5},
    }
    return Entry(**(fields | changes))


def fixed_salt(count: int) -> bytes:
    return bytes(range(count))


def test_the_bytes_of_a_leaf() -> None:
    """The format that docs/journal.md promises, to the byte."""
    sealed = seal(entry(), run_seq=3, run_prev=PREVIOUS, salt_source=fixed_salt)
    payload = '{"host":"pc-é","score":0.5}'.encode()
    commitment = hashlib.sha256(bytes(range(32)) + payload).hexdigest()
    assert sealed.leaf.decode() == (
        '{"actor":"worker:a","at":"2026-03-04T05:06:07.000089Z","data":{"dry":false,"number":2,"step":"isolate"},'
        f'"id":"entry-1","payload":"{commitment}","run":"run-1","run_prev":"{PREVIOUS}","run_seq":3,'
        '"subject":"run-1","type":"action.intent","v":1}'
    )
    assert sealed.leaf_hash == leaf_hash(sealed.leaf)
    assert (sealed.salt, sealed.payload) == (bytes(range(32)), payload)


def test_what_an_entry_does_not_have_is_absent() -> None:
    sealed = seal(entry(run_id=None, payload=None, data={}), run_seq=0, run_prev="")
    assert set(parse_leaf(sealed.leaf)) == {"v", "id", "type", "at", "actor", "subject", "data"}
    assert sealed.salt is None
    assert sealed.payload is None


def test_the_time_of_any_zone_is_written_in_utc() -> None:
    moment = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert parse_leaf(seal(entry(at=moment), run_seq=0, run_prev="").leaf)["at"] == "2026-03-04T05:06:07.000089Z"


def test_a_payload_keeps_numbers_that_canonical_json_cannot_say() -> None:
    """Falco's times are nanoseconds, beyond 2**53; such an alert must not stop the journal."""
    sealed = seal(entry(payload={"time": 1507591916746609046}), run_seq=0, run_prev="")
    assert sealed.payload == b'{"time":1507591916746609046}'


def test_equal_payloads_are_told_apart_by_their_salt() -> None:
    """Nobody can guess an erased payload by hashing candidates."""
    first, second = (seal(entry(), run_seq=0, run_prev="") for _ in range(2))
    assert first.payload == second.payload
    assert parse_leaf(first.leaf)["payload"] != parse_leaf(second.leaf)["payload"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
leaf_data = st.dictionaries(
    st.text(st.characters(max_codepoint=127)),
    st.text() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1),
    max_size=4,
)


@given(
    data=leaf_data,
    payload=st.none() | st.dictionaries(st.text(), json_values, max_size=3),
    subject=st.text(),
    sequence=st.integers(0, 2**53 - 1),
    at=st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001 -- naive bounds are what datetimes() takes
)
def test_what_was_sealed_is_read_back(
    data: dict[str, Any], payload: dict[str, Any] | None, subject: str, sequence: int, at: datetime
) -> None:
    """And a leaf is RFC 8785 as the general encoder writes it, though a quicker one wrote it."""
    previous = PREVIOUS if sequence else ""
    sealed = seal(entry(data=data, payload=payload, subject=subject, at=at), run_seq=sequence, run_prev=previous)
    fields = parse_leaf(sealed.leaf)
    assert sealed.leaf == canonical(fields)
    assert (fields["data"], fields["subject"]) == (data, subject)
    assert (fields["run"], fields["run_seq"], fields["run_prev"]) == ("run-1", sequence, previous)
    if sealed.salt is None or sealed.payload is None:
        assert payload is None
        assert "payload" not in fields
    else:
        assert json.loads(sealed.payload) == payload
        assert payload_matches(sealed.leaf, sealed.salt, sealed.payload)
        assert not payload_matches(sealed.leaf, sealed.salt, sealed.payload + b" ")
        assert not payload_matches(sealed.leaf, bytes(32), sealed.payload)
        assert not payload_matches(sealed.leaf, sealed.salt[:-1], sealed.salt[-1:] + sealed.payload)


def test_every_character_is_written_as_rfc_8785_says() -> None:
    for start in range(0, 0x110000, 0x1000):
        text = "".join(chr(code) for code in range(start, start + 0x1000) if not 0xD800 <= code <= 0xDFFF)
        leaf = seal(entry(data={"t": text}), run_seq=0, run_prev="").leaf
        assert leaf == canonical(parse_leaf(leaf))


def test_a_payload_of_a_leaf_without_one_never_matches() -> None:
    leaf = seal(entry(payload=None), run_seq=0, run_prev="").leaf
    assert not payload_matches(leaf, bytes(32), b"{}")


def test_a_salt_moved_into_the_payload_does_not_keep_the_promise() -> None:
    sealed = seal(entry(), run_seq=0, run_prev="", salt_source=fixed_salt)
    assert sealed.salt is not None
    assert sealed.payload is not None
    promised = parse_leaf(sealed.leaf)["payload"]
    assert keeps_promise(promised, sealed.salt, sealed.payload)
    assert not keeps_promise(promised, b"", sealed.salt + sealed.payload)


@pytest.mark.parametrize(
    ("changes", "place", "said"),
    [
        ({"data": {"text": "x" * LEAF_BYTES_MAX}}, (0, ""), r"takes 65\d{3} bytes, a leaf at most 65535"),
        ({"data": {"number": 2**53}}, (0, ""), "53"),
        ({"data": {"naïve": 1}}, (0, ""), "not ASCII"),
        ({"payload": {"number": float("nan")}}, (0, ""), "not JSON compliant"),
        ({"payload": {"text": "\ud800"}}, (0, ""), "surrogates"),
        ({"payload": {"set": {1}}}, (0, ""), "not JSON serializable"),
        ({"at": datetime(2026, 1, 1)}, (0, ""), "without a zone"),  # noqa: DTZ001 -- the fault under test
        ({"run_id": ""}, (0, ""), "run is not a name"),
        ({}, (-1, ""), "count from 0"),
        ({}, (0, PREVIOUS), "run_prev"),
        ({}, (1, ""), "run_prev"),
        ({}, (1, PREVIOUS.upper()), "run_prev"),
        ({"run_id": None}, (1, ""), "belongs to no run"),
        ({"run_id": None}, (0, PREVIOUS), "belongs to no run"),
    ],
)
def test_what_cannot_be_sealed_is_refused_by_name(changes: dict[str, Any], place: tuple[int, str], said: str) -> None:
    with pytest.raises(JournalError, match=said) as caught:
        seal(entry(**changes), run_seq=place[0], run_prev=place[1])
    assert "entry entry-1 (action.intent)" in str(caught.value)


def test_a_leaf_may_take_all_that_its_length_can_say() -> None:
    spare = LEAF_BYTES_MAX - len(seal(entry(data={"t": ""}), run_seq=0, run_prev="").leaf)
    leaf = seal(entry(data={"t": "x" * spare}), run_seq=0, run_prev="").leaf
    assert len(leaf) == LEAF_BYTES_MAX
    assert parse_leaf(leaf)["data"]["t"] == "x" * spare


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    fields = parse_leaf(seal(entry(), run_seq=1, run_prev=PREVIOUS, salt_source=fixed_salt).leaf)
    change(fields)
    return canonical(fields)


GOOD = changed(lambda _: None)


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        (b"", "cannot be read"),
        (b"\xff", "cannot be read"),
        (GOOD[:-1], "cannot be read"),
        (b"[" * 60_000, "cannot be read"),
        (b"[]", "not a JSON object"),
        (GOOD + b"\n", "canonical"),
        (GOOD.replace(b":", b": ", 1), "canonical"),
        (GOOD.replace(b"isolate", b"isol\\u0061te"), "canonical"),
        (GOOD.replace(b'"v":1', b'"v":1,"v":1'), "canonical"),
        (GOOD.replace(b'"v":1', b'"v":1.0'), "version"),
        (GOOD.replace(b'"v":1', b'"v":true'), "version"),
        (GOOD.replace(b'"v":1', b'"v":2'), "version"),
        (GOOD.replace(b'"number":2', b'"number":2.5'), "data.number"),
        (GOOD.replace(b'"number":2', b'"number":null'), "data.number"),
        (GOOD.replace(b'"number":2', b'"number":9007199254740992'), "cannot be read"),
        (GOOD.replace(b'"number":2', b'"number":' + b"9" * 30), "data.number"),
        (changed(lambda f: f.pop("actor")), "actor"),
        (changed(lambda f: f.update(extra="1")), "extra"),
        (changed(lambda f: f.update(actor=1)), "actor is not text"),
        (changed(lambda f: f.update(at="2026-03-04T05:06:07Z")), "at is not"),
        (changed(lambda f: f.update(payload="AB" * 32)), "payload is not"),
        (changed(lambda f: f.update(data=[])), "data is not an object"),
        (changed(lambda f: f.update(data={"ключ": 1})), "not ASCII"),
        (changed(lambda f: f.pop("run_seq")), "go together"),
        (changed(lambda f: f.update(run_seq=0)), "run_prev"),
        (changed(lambda f: f.update(run_seq=True)), "count from 0"),
        (b" " * (LEAF_BYTES_MAX + 1), "more than 65535"),
        ("{}", "not bytes but str"),
        (None, "not bytes but NoneType"),
    ],
)
def test_bytes_that_seal_would_not_give_are_no_leaf(leaf: Any, said: str) -> None:
    with pytest.raises(JournalError, match=said):
        parse_leaf(leaf)


def test_published_canonical_json(shared_data: Path) -> None:
    """What leaves are compared with is RFC 8785 by its author's own vectors (cyberphone/json-canonicalization)."""
    files = sorted((shared_data / "vectors/jcs/input").glob("*.json"))
    assert len(files) == 6
    for file in files:
        expected = (shared_data / "vectors/jcs/output" / file.name).read_bytes()
        assert canonical(json.loads(file.read_bytes())) == expected, file.name
