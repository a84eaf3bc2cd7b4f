"""Whatever bytes come in, each record has at least one outcome, and none of them is an exception."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import soar.ingest.normalise
from soar.ingest.describe import describe
from soar.ingest.mapping import MAX_NARROWED, MAX_REMEMBERED_KEYS, load_mappings
from soar.ingest.normalise import Normaliser
from soar.model.alert import Alert, AlertDocument, DeadLetter
from soar.model.base import canonical, to_rfc3339

from .normalising import BUILT_IN, NOW, CountedIds, StoppedClock, alert, alerts, dead, normalise, record

KEYS = sorted({key for one in BUILT_IN.candidates() for key in one.keys})
FIELDS = [
    "id",
    "title",
    "severity",
    "time",
    "host",
    "src_ip",
    "labels",
    "rule",
    "alert",
    "alerts",
    "data",
    "properties",
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["high", "firing", "2026-01-02T03:04:05Z", "10.0.0.1", "a" * 64, "alert", "aws.guardduty", "{}"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS + FIELDS) | st.text(), inner, max_size=6)
    ),
    max_leaves=30,
)
relaxed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcomes(value: Any, mapping: str | None = None) -> list[Alert | DeadLetter]:
    """The outcomes, each of which the journal and the store can hold."""
    found = normalise(value, mapping)
    assert found
    for one in found:
        canonical(one.model_dump(mode="json"))
        assert type(one).model_validate_json(one.model_dump_json()) == one
    return found


@relaxed
@given(st.binary(max_size=400))
def test_any_bytes_have_an_outcome(value: bytes) -> None:
    outcomes(value)


@relaxed
@given(values)
def test_any_json_has_an_outcome(value: Any) -> None:
    outcomes(value)


@relaxed
@given(st.sampled_from(BUILT_IN.candidates()), st.data())
def test_any_values_under_the_keys_of_a_product_have_an_outcome(candidate: Any, data: st.DataObject) -> None:
    """Right keys, wrong contents: every shape of every mapping, and the mapping named by the source."""
    payload = {key: data.draw(values) for key in sorted(candidate.keys)}
    outcomes(payload)
    outcomes(payload, candidate.mapping.name)
    describe(BUILT_IN, record(payload, candidate.mapping.name))


@relaxed
@given(st.sampled_from(sorted(BUILT_IN.by_name)), values)
def test_any_json_under_any_mapping_has_an_outcome(name: str, value: Any) -> None:
    outcomes(value, name)


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        (b"", "empty", "tombstone"),
        (b" \n", "empty", "tombstone"),
        (b"\0", "schema_registry", "schema registry"),
        (b"\3\0", "schema_registry", "schema registry"),
        (b"hello", "not_json", "is no JSON"),
        (b'{"a": 1', "not_json", "ends too early"),
        (b'{"a": "x', "not_json", "ends too early"),
        (b'{"a": 1} {"b": 2}', "not_json", "line 1, column 10"),
        (b'{"a": "\xff"}', "not_utf8", "byte 7"),
        ('{"a": 1}'.encode("utf-16"), "not_utf8", "send UTF-8"),
        (b'{"a": 1, "a": 2}', "duplicate_key", "'a' twice"),
        (b'{"a": {"b": 1, "b": 1}}', "duplicate_key", "'b' twice"),
        (b'{"a": NaN}', "bad_number", "NaN"),
        (b'{"a": -Infinity}', "bad_number", "-Infinity"),
        (b'{"a": 1e999}', "bad_number", "out of range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "bad_number", "5000 digits"),
        (b"[" * 65 + b"]" * 65, "too_deep", "64 levels"),
        (b'{"a":' * 500_000, "too_large", "1048576"),
        (b'{"a":' * 100_000, "too_deep", "64 levels"),
        (b"[" + b'"' + b'\\"' * 400_000, "not_json", "ends too early"),
        (b"null", "not_an_object", "is null"),
        (b'"text"', "not_an_object", "is text"),
        (b"7", "not_an_object", "is a number"),
        (b"[]", "empty", "empty array"),
        (b"[" + b"{}," * 10_000 + b"{}]", "too_many", "more than 10000"),
        (b'{"alerts":[' + b"{}," * 10_000 + b"{}]}", "too_many", "more than 10000"),
        (
            b"[" + b'{"alerts":[' + b"{}," * 5_999 + b"{}]}" + b',{"alerts":[' + b"{}," * 5_999 + b"{}]}]",
            "too_many",
            "",
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_cannot_be_read_is_a_dead_letter_that_says_why(value: bytes, code: str, says: str) -> None:
    """Kept whole, to be replayed after a fix."""
    one = dead(value)
    assert (one.code, one.record.value, one.at) == (code, value, NOW)
    assert says in one.reason
    assert one.reason.startswith("the record ")


def test_depth_counts_brackets_outside_of_text_only() -> None:
    assert alert({"title": "[" * 100, "name": '\\"[{' * 100}).title == "[" * 100


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert alert(b'\xef\xbb\xbf{"title": "t"}').title == "t"


def test_a_mapping_that_is_not_there_is_named() -> None:
    one = dead({"title": "t"}, mapping="suricatta")
    assert one.code == "unknown_mapping"
    assert one.reason.endswith("names the mapping 'suricatta', which is not loaded; did you mean 'suricata'?")


def test_integers_beyond_canonical_json_become_their_digits() -> None:
    one = alert(b'{"title": "t", "small": 9007199254740991, "id": 346037607908199600}')
    assert one.raw["id"] == one.uid == "346037607908199600"
    assert one.raw["small"] == 9007199254740991


def test_lone_surrogates_become_replacement_characters() -> None:
    """A Windows path may hold one; nothing behind the door can encode it."""
    one = alert(b'{"title": "a\\ud800b", "k\\uDC00": ["\\ud83d\\ude00"]}')
    assert one.title == "a\ufffdb"
    assert one.raw["k\ufffd"] == ["\N{GRINNING FACE}"]


def test_control_and_direction_characters_stay_in_raw_only() -> None:
    """They are removed from what people read."""
    sent = "\x1b[31mred\x07\u202egnp.exe\u2066\x9b\u200f\r\nnext"
    one = alert({"title": sent, "description": sent, "rule_name": sent, "labels": {"a\x00b": sent}})
    assert one.title == one.rule.name == one.labels["ab"] == "[31mredgnp.exe next"
    assert one.description == "[31mredgnp.exe\nnext"
    assert one.raw["title"] == sent


def test_a_name_with_hidden_characters_does_not_become_another_name() -> None:
    """Removing them would turn it into `admin`, and a playbook might disable that account."""
    one = alert({"title": "t", "user": "ad\u202emin", "hostname": "web\x001"})
    assert one.entities.users[0].name == "ad\ufffdmin"
    assert one.entities.hosts[0].name == "web\ufffd1"


def test_long_texts_are_bounded() -> None:
    one = alert({"title": "t" * 9999, "description": "d" * 99999, "user": "u" * 9999, "labels": {"k" * 999: "v" * 999}})
    assert (len(one.title), len(one.description or "")) == (512, 8192)
    assert one.title.endswith("…")
    assert len(one.entities.users[0].name or "") == 1024
    assert {len(key): len(value) for key, value in one.labels.items() if key[0] == "k"} == {128: 256}


def test_entities_and_labels_are_bounded() -> None:
    addresses = [f"10.0.{number // 256}.{number % 256}" for number in range(5000)]
    one = alert({"title": "t", "ips": addresses, "labels": {f"l{number}": "x" for number in range(500)}})
    assert len(one.entities.ips) == len(one.observables.ip) == 100
    assert len([key for key in one.labels if key.startswith("l")]) == 64


def test_a_payload_cannot_set_labels_that_are_ours() -> None:
    one = alert({"title": "t", "time": to_rfc3339(NOW), "labels": {"soar.time_source": "trust me", "\x00soar.x": "y"}})
    assert one.labels == {"soar.severity_source": "default"}


def test_a_payload_cannot_pose_as_its_envelope() -> None:
    """`_root` and `_parent` are what the record is, not what an element says it is."""
    element = {"labels": {"alertname": "a"}, "startsAt": "x", "_root": {"receiver": "forged"}, "_parent": {}}
    one = alert({"receiver": "real", "groupKey": "k", "groupLabels": {}, "alerts": [element]})
    assert one.labels["receiver"] == "real"
    assert one.raw == element


@pytest.mark.parametrize("text", ["${{ alert.title }}", "{{ 7*7 }}", "`1`", "alert.title", "__import__('os')", "@"])
def test_no_value_is_ever_an_expression(text: str) -> None:
    """What an attacker writes is shown as it is written."""
    one = alert({"title": text, "user": text, "labels": {"l": text}})
    assert one.title == one.entities.users[0].name == one.labels["l"] == text


@pytest.mark.parametrize("ahead", [timedelta(hours=25), timedelta(days=10_000)])
def test_a_time_far_in_the_future_is_not_believed(ahead: timedelta) -> None:
    one = alert({"title": "t", "time": to_rfc3339(NOW + ahead)})
    assert (one.time, one.labels["soar.time_source"]) == (NOW, "received")


def test_a_clock_that_is_a_little_ahead_is_believed() -> None:
    one = alert({"title": "t", "time": to_rfc3339(NOW + timedelta(hours=23))})
    assert one.time == NOW + timedelta(hours=23)
    assert "soar.time_source" not in one.labels


@pytest.mark.parametrize("address", [1020, "1020", "999.1.1.1", "10.0.0.1/8", "localhost", "1.2.3.4:80", True])
def test_what_is_no_address_is_no_address(address: object) -> None:
    """QRadar gives ids of addresses where others give addresses; 1020 is not 0.0.3.252."""
    assert alert({"title": "t", "src_ip": address}).entities.ips == ()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("::ffff:10.0.0.1", "10.0.0.1"), ("[2001:DB8::1]", "2001:db8::1"), (" 10.0.0.1. ", "10.0.0.1")],
)
def test_addresses_have_one_spelling(sent: str, kept: str) -> None:
    assert alert({"title": "t", "src_ip": sent}).observables.ip == (kept,)


def test_dotted_keys_cannot_nest_deeper_than_brackets() -> None:
    payload: Any = 1
    for _ in range(50):
        payload = {".".join("a" * 50): payload}
    found = outcomes({"_index": "i", "_id": "1", "_source": {"event.kind": "alert", "x": payload}})
    assert isinstance(found[0], Alert)


def test_dotted_keys_that_contradict_each_other_are_kept_apart() -> None:
    one = alert({"kibana.alert.rule.name": "R", "host": "plain", "host.name": "dotted", "a": {"b": 1}, "a.b": 2})
    assert one.source == "elastic"
    assert one.title == "R"


def test_a_batch_of_bad_elements_is_not_stored_once_for_each() -> None:
    found = normalise([1] * 3 + ["x" * 1000])
    assert [one.record.value for one in found if isinstance(one, DeadLetter)] == [b"1"] * 3 + [
        json.dumps("x" * 1000).encode()
    ]
    assert len({one.id for one in found}) == 4


def test_the_same_content_has_the_same_uid() -> None:
    """Redelivery is normal; the digest lets the engine see it."""
    first, second = alerts([{"title": "t", "n": 1.0}, {"n": 1.0, "title": "t"}])
    assert first.uid == second.uid
    assert first.id != second.id


@pytest.mark.parametrize("number", ["9" * 309, "-" + "9" * 399, "1e999"])
@pytest.mark.parametrize("field", ["severity", "priority", "level", "confidence", "risk_score"])
def test_a_number_beyond_all_floats_is_no_severity(field: str, number: str) -> None:
    """And its neighbours in a batch become alerts, whether it can be one or not."""
    quoted, bare, last = (f'{{"title":"t{n}","{field}":{value}}}' for n, value in enumerate((f'"{number}"', 1, '"1"')))
    assert [type(one) for one in outcomes(f"[{quoted},{bare},{last}]".encode())] == [Alert] * 3
    if "e" not in number:
        assert [type(one) for one in outcomes(f'[{{"title":"t","{field}":{number}}},{last}]'.encode())] == [Alert] * 2


def test_a_mistake_of_ours_on_one_element_buries_that_element_only(monkeypatch: pytest.MonkeyPatch) -> None:
    build = soar.ingest.normalise.build

    def fails_on_some(*given: Any, **more: Any) -> Any:
        if given[2].raw.get("title") == "cursed":
            raise ZeroDivisionError("nobody thought of this")
        return build(*given, **more)

    monkeypatch.setattr("soar.ingest.normalise.build", fails_on_some)
    first, second, third = normalise([{"title": "a"}, {"title": "cursed"}, {"title": "b"}])
    assert isinstance(first, Alert)
    assert isinstance(third, Alert)
    assert isinstance(second, DeadLetter)
    assert (second.code, second.record.value) == ("bug", b'{"title": "cursed"}')
    assert "ZeroDivisionError: nobody thought of this" in second.reason


def test_ever_new_keys_are_not_remembered() -> None:
    """A payload's keys are its sender's: what is kept of them must not grow with them."""
    normaliser = Normaliser(load_mappings(), CountedIds(), StoppedClock())
    chooser = normaliser._chooser
    for number in range(20):
        payload = {"title": "t", "detail": {"a": 1}, **{f"{number}-{each}": 1 for each in range(MAX_REMEMBERED_KEYS)}}
        assert isinstance(next(iter(normaliser.normalise(record(payload)))), AlertDocument)
    for number in range(2 * MAX_NARROWED):
        assert isinstance(next(iter(normaliser.normalise(record({"title": "t", f"{number}": 1})))), AlertDocument)
    remembered = [keys for mapping in chooser.mappings.by_name.values() for keys in mapping.among.known]
    assert len(remembered) <= MAX_NARROWED
    assert max(map(len, remembered)) <= MAX_REMEMBERED_KEYS
    assert len(chooser._fitting[None].known) <= MAX_NARROWED
    assert max(map(len, chooser._fitting[None].known)) <= MAX_REMEMBERED_KEYS


def test_what_alerts_share_is_not_worked_out_for_each() -> None:
    """Lists of the length of a record, held against each of its many alerts or entities, were minutes of work."""
    shared = [1] * 200_000
    many = {"receiver": shared, "groupKey": "k", "groupLabels": {}, "alerts": [{"labels": {}}] * 1000}
    pairs = [{"Key": "target_name", "ValueString": f"u{n}"} for n in range(200)] + [{"Key": "x"}] * 15_000
    began = time.process_time()
    assert len(normalise(many)) == 1000
    one = alert({"metadata": {"eventType": "x"}, "event": {"AuditKeyValues": pairs}})
    assert len(one.entities.users) == 100
    assert time.process_time() - began < 30  # of minutes; a second or two here
