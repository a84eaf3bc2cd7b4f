"""What is in a record: one document, lines, CloudEvents, registry frames. One bad part costs itself alone."""

import base64
import json
from typing import Any

import pytest

from soar.ingest.normalise import Normaliser
from soar.model.alert import Alert, AlertDocument, DeadLetter

from .normalising import BUILT_IN, CountedIds, StoppedClock, alerts, dead, normalise, record

EVENT = {"specversion": "1.0", "id": "e1", "source": "/siem", "type": "siem.alert"}


def titled(number: int) -> dict[str, str]:
    return {"title": f"Alert {number}", "severity": "high"}


def event(**more: Any) -> dict[str, Any]:
    return EVENT | more


def test_each_line_of_a_value_is_an_alert():
    value = b"".join(json.dumps(titled(number)).encode() + b"\r\n" for number in range(3)) + b"\n"
    assert [each.title for each in alerts(value)] == ["Alert 0", "Alert 1", "Alert 2"]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_line_is_a_dead_letter_of_its_own(place: int):
    lines = [json.dumps(titled(number)).encode() for number in range(3)]
    lines[place] = b"{cut"
    found = normalise(b"\n".join(lines))
    assert [each.title for each in found if isinstance(each, Alert)] == [f"Alert {n}" for n in range(3) if n != place]
    [letter] = [each for each in found if isinstance(each, DeadLetter)]
    assert (letter.record.value, letter.code) == (b"{cut", "not_json")
    assert letter.reason.startswith(f"element {place + 1} of 3")


def test_one_broken_document_over_several_lines_is_one_dead_letter():
    value = b'{\n"title": "A",\n"nested": {}\n,}\n'
    assert dead(value).record.value == value


@pytest.mark.parametrize(
    "value",
    [
        event(data=titled(1)),
        [event(data=titled(1))],
        event(datacontenttype="application/json", data=[titled(1)]),
        event(data_base64=base64.b64encode(json.dumps(titled(1)).encode()).decode()),
    ],
)
def test_a_cloud_event_is_opened(value: Any):
    assert [(each.title, each.raw) for each in alerts(value)] == [("Alert 1", titled(1))]


def test_in_binary_mode_the_value_is_the_data():
    headers = {f"ce_{name}": value for name, value in EVENT.items()} | {"content-type": "application/json"}
    sent = record(titled(1)).model_copy(update={"headers": headers})
    [one] = Normaliser(BUILT_IN, CountedIds(), StoppedClock()).normalise(sent)
    assert isinstance(one, AlertDocument)
    assert (one.body["title"], one.body["raw"]) == ("Alert 1", titled(1))


def test_a_batch_of_cloud_events_is_opened_one_by_one():
    assert [each.title for each in alerts([event(data=titled(n)) for n in range(3)])] == [
        "Alert 0",
        "Alert 1",
        "Alert 2",
    ]


def test_what_only_looks_like_a_cloud_event_stays_as_it_is():
    value = {"specversion": "1.0", "title": "Ours", "data": titled(1)}
    assert [each.raw for each in alerts(value)] == [value]


def test_an_event_with_data_that_is_no_json_is_a_dead_letter():
    letter = dead(event(data_base64="AAAA"))
    assert "data_base64 is no JSON" in letter.reason


def test_json_behind_a_registry_frame_is_read_and_avro_is_named():
    frame = b"\0" + (7).to_bytes(4, "big")
    assert [each.title for each in alerts(frame + json.dumps(titled(1)).encode())] == ["Alert 1"]
    letter = dead(frame + b"\x10Ransomw")
    assert letter.code == "schema_registry"
    assert "schema id 7" in letter.reason
    assert "Avro or Protobuf" in letter.reason


@pytest.mark.parametrize("frame", [b"\0" + bytes(8), b"\3\0" + bytes(16)], ids=["Apicurio", "Glue"])
def test_frames_of_other_registries_are_known_too(frame: bytes):
    assert [each.title for each in alerts(frame + json.dumps(titled(1)).encode())] == ["Alert 1"]
    assert dead(frame + b"\x10Ransomw").code == "schema_registry"


def test_a_registry_that_compresses_names_its_schema():
    letter = dead(b"\3\5" + bytes(range(16)) + b"x\x9c")
    assert "00010203-0405-0607-0809-0a0b0c0d0e0f, as AWS Glue writes it" in letter.reason
