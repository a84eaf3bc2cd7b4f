"""Mapping files: what is wrong with one is said with its place and remedy, and does not keep the others out."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from soar.errors import MappingError
from soar.ingest import fields
from soar.ingest.describe import describe
from soar.ingest.mapping import BUILT_IN as BUILT_IN_FOLDER
from soar.ingest.mapping import load_mappings, parse_mapping
from soar.model.alert import Alert, Attack, Entities, Observables, Rule

from .normalising import BUILT_IN, NOW, alert, mapping_of, normalise, record

MINIMAL = "name: probe\nproduct: Probe\n"
PROBE = """\
name: probe
product: Probe 3000
shapes:
  - {keys: [probe, findings], where: probe == 'v1', split: findings}
uid: ref
rule: {id: code, name: what}
title: [headline, what]
severity: {from: level, scale: 5-1}
time: at
entities:
  hosts:
    - {each: machines, name: value, id: _parent.ref}
labels: {sensor: _root.sensor}
"""


def errors_of(text: str) -> list[str]:
    return [str(error) for error in parse_mapping(text, "m.yaml").errors]


def test_the_built_in_mappings_load() -> None:
    assert BUILT_IN.errors == ()
    assert {path.stem for path in BUILT_IN_FOLDER.glob("*.yaml")} == BUILT_IN.by_name.keys()
    assert BUILT_IN.fallback.name == "generic"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "m.yaml: is no mapping; start with name: and product:"),
        ("- a", "m.yaml: is no mapping; start with name: and product:"),
        ("name: probe", "m.yaml:1:1: 'product' is missing; add it"),
        ("name: My Probe\nproduct: P", "m.yaml:1:7: 'name': String should match pattern"),
        (MINIMAL + "titel: x", "m.yaml:3:1: unknown key 'titel'; did you mean 'title'?"),
        (MINIMAL + "title: 'a..b'", "m.yaml:3:8: 'title': expression 'a..b' at column 3"),
        (MINIMAL + "title: [a, 'b[']", "m.yaml:3:12: 'title.1': expression 'b['"),
        (MINIMAL + "title: 7", "m.yaml:3:8: 'title': 7 is no expression; write JMESPath as text"),
        (MINIMAL + "title: nosuch(a)", "m.yaml:3:8: 'title': expression 'nosuch(a)'"),
        (MINIMAL + "shapes:\n  - keys: []", "m.yaml:4:11: 'shapes.0.keys'"),
        (MINIMAL + "shapes:\n  - where: a", "m.yaml:4:5: 'shapes.0.keys' is missing; add it"),
        (MINIMAL + "shapes:\n  - {keys: [a], were: b}", "m.yaml:4:17: unknown key 'were'; did you mean 'where'?"),
        (MINIMAL + "severity: {from: a, scale: high}", "m.yaml:3:28: 'severity.scale': write a scale as LEAST-MOST"),
        (MINIMAL + "severity: {from: a, scale: 5-5}", "m.yaml:3:28: 'severity.scale': write a scale as LEAST-MOST"),
        (MINIMAL + "severity: {from: a, words: {x: hihg}}", "m.yaml:3:32: 'severity.words.x'"),
        (MINIMAL + "severity: {from: a, bands: {1: high, 2: low}}", "m.yaml:3:11: 'severity': bands must rise"),
        (MINIMAL + "severity: {from: a, bands: {1: low}, scale: 0-1}", "m.yaml:3:11: 'severity': has both"),
        (MINIMAL + "severity: {scale: 0-1}", "m.yaml:3:11: 'severity.from' is missing; add it"),
        (MINIMAL + "decode: a..b", "m.yaml:3:9: 'decode': 'a..b' is no path"),
        (MINIMAL + "decode: [a, 'b[0]']", "m.yaml:3:13: 'decode.1': 'b[0]' is no path"),
        (MINIMAL + "time_formats: ['%Q']", "m.yaml:3:16: 'time_formats.0': '%Q' is no strptime format"),
        (MINIMAL + "default_severity: hgih", "m.yaml:3:19: 'default_severity': Input should be"),
        (MINIMAL + "entities: {hosts: [{nam: x}]}", "m.yaml:3:21: unknown key 'nam'; did you mean 'name'?"),
        (MINIMAL + "entities: {ips: [{role: source}]}", "m.yaml:3:18: 'entities.ips.0.address' is missing; add it"),
        (MINIMAL + "entities: {ips: [{address: a, role: victim}]}", "m.yaml:3:37: 'entities.ips.0.role'"),
        (MINIMAL + "title: a\ntitle: b", "m.yaml:4:1: the key 'title' stands twice; keep one"),
        (MINIMAL + "title: &a x\nuid: *a", "m.yaml:3:8: anchors and aliases are not allowed"),
        ("name: [", "is no YAML"),
    ],
)
def test_an_error_names_place_and_remedy(text: str, error: str) -> None:
    (found,) = errors_of(text)
    assert error in found


def test_all_errors_of_a_file_are_said_at_once() -> None:
    found = errors_of(MINIMAL + "titel: x\nuid: 'a['\nseverity: {from: a, scale: x}\n")
    assert [error.split(": ", 1)[0] for error in found] == ["m.yaml:3:1", "m.yaml:4:6", "m.yaml:5:28"]


def test_a_users_mapping_is_a_file_in_a_folder(tmp_path: Path) -> None:
    """Nothing else is needed: it is found by its shape, splits, and reads its envelope."""
    (tmp_path / "probe.yaml").write_text(PROBE)
    mappings = load_mappings([tmp_path])
    found = normalise(
        {
            "probe": "v1",
            "sensor": "s-1",
            "findings": [
                {
                    "ref": "1",
                    "code": 7,
                    "what": "Scan",
                    "level": 2,
                    "at": "2026-01-02 03:04:05",
                    "machines": ["a", "b"],
                },
                {"ref": "2", "what": "Scan", "headline": "Second", "level": "1"},
            ],
        },
        mappings=mappings,
    )
    first, second = (one for one in found if isinstance(one, Alert))
    assert (first.source, first.product, first.uid, first.rule) == (
        "probe",
        "Probe 3000",
        "1",
        Rule(id="7", name="Scan"),
    )
    assert (first.severity, first.severity_score) == ("high", 75)
    assert [(host.name, host.id) for host in first.entities.hosts] == [("a", "1"), ("b", "1")]
    assert first.labels == {"sensor": "s-1"}
    assert (second.title, second.severity, second.time) == ("Second", "critical", NOW)


def test_a_broken_file_does_not_keep_the_others_out(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nproduct: A\ntitle: '['\n")
    (tmp_path / "b.yaml").write_text("name: b\nproduct: B\n")
    (tmp_path / "c.yaml").write_bytes(b"name: \xff")
    mappings = load_mappings([tmp_path])
    assert "b" in mappings.by_name
    assert mappings.by_name.keys() > BUILT_IN.by_name.keys()
    assert [error.place and Path(error.place.file).name for error in mappings.errors] == ["a.yaml", "c.yaml"]
    assert all(isinstance(error, MappingError) for error in mappings.errors)


def test_a_users_mapping_replaces_the_built_in_one_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "generic.yaml").write_text("name: generic\nproduct: Mine\ntitle: subject\n")
    mappings = load_mappings([tmp_path])
    assert alert({"subject": "s"}, mappings=mappings).product == "Mine"


def test_two_files_of_one_name_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: same\nproduct: A\n")
    (tmp_path / "b.yaml").write_text("name: same\nproduct: B\n")
    mappings = load_mappings([tmp_path])
    assert mappings.by_name["same"].product == "A"
    (error,) = mappings.errors
    assert str(error) == f"{tmp_path}/b.yaml: a mapping named 'same' is already loaded; rename this one"


def test_a_source_may_name_the_mapping_whatever_the_shape() -> None:
    mappings = BUILT_IN.including(mapping_of(PROBE))
    one = alert({"event_type": "alert", "alert": {}, "timestamp": "x", "what": "W"}, "probe", mappings)
    assert (one.source, one.title) == ("probe", "W")


@pytest.mark.parametrize(("priority", "winner"), [(90, "probe"), (10, "suricata")])
def test_priority_decides_between_shapes_that_fit(priority: int, winner: str) -> None:
    shape = "shapes: [{keys: [event_type], where: event_type == 'alert'}]\n"
    mappings = BUILT_IN.including(mapping_of(MINIMAL + f"priority: {priority}\n" + shape))
    assert alert({"event_type": "alert", "alert": {}, "timestamp": "x"}, mappings=mappings).source == winner


def test_more_keys_come_first_at_equal_priority() -> None:
    wide = mapping_of("name: wide\nproduct: W\nshapes: [{keys: [k]}]\n")
    narrow = mapping_of("name: wnarrow\nproduct: N\nshapes: [{keys: [k, l]}]\n")
    mappings = BUILT_IN.including(wide).including(narrow)
    assert alert({"k": 1, "l": 2}, mappings=mappings).source == "wnarrow"
    assert alert({"k": 1}, mappings=mappings).source == "wide"


def test_json_inside_strings_is_decoded_where_the_mapping_says() -> None:
    mapping = mapping_of(
        MINIMAL + "decode: [outer, 'items[].\"a.b\"']\ntitle: outer.inner.title\n"
        "entities: {hosts: [{each: items, name: '\"a.b\".host'}]}\n"
    )
    payload = {
        "outer": '{"inner": {"title": "deep"}}',
        "items": [{"a.b": '{"host": "h1"}'}, {"a.b": "{broken"}, 7, {"a.b": '{"host": "h2", "host": "h3"}'}],
    }
    one = alert(payload, "probe", BUILT_IN.including(mapping))
    assert one.title == "deep"
    assert [host.name for host in one.entities.hosts] == ["h1"]
    assert one.raw == payload


def test_every_field_of_an_entity_can_be_filled() -> None:
    """The file format keeps up with the model."""
    for kind, annotated in Entities.model_fields.items():
        entity = annotated.annotation.__args__[0]  # type: ignore[union-attr]
        line = fields.EntitiesFields.model_fields[kind].annotation.__args__[0]  # type: ignore[union-attr]
        assert set(line.model_fields) - {"each"} == set(entity.model_fields)
    assert set(fields.ObservablesFields.model_fields) == set(Observables.model_fields)
    assert set(fields.AttackFields.model_fields) == set(Attack.model_fields)
    assert set(fields.RuleFields.model_fields) == set(Rule.model_fields)


def test_the_example_in_the_manual_works() -> None:
    manual = (Path(__file__).resolve().parents[2] / "docs" / "mappings.md").read_text()
    sample, mapping = (re.search(rf"```{kind}\n(.*?)```", manual, re.DOTALL) for kind in ("json", "yaml"))
    assert sample
    assert mapping
    one = alert(sample[1].encode(), mappings=BUILT_IN.including(mapping_of(mapping[1])))
    assert (one.source, one.uid, one.title, one.severity) == ("scanner", "F-17", "SMBv1 enabled", "critical")
    assert one.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert one.entities.hosts[0].name == "fs-1"
    assert [(ip.address, ip.role) for ip in one.entities.ips] == [("10.0.0.5", "target"), ("10.0.0.6", "target")]
    assert one.labels == {"site": "Basel"}


def test_describing_a_sample_says_which_expression_filled_each_field() -> None:
    mappings = BUILT_IN.including(mapping_of(PROBE))
    sample = {"probe": "v1", "findings": [{"ref": "1", "what": "Scan", "level": "?", "machines": ["a"]}, 7]}
    description = describe(mappings, record(sample, "probe"))
    assert description.detected == ("probe",)
    first, second = description.elements
    assert first.alert
    assert first.alert["title"] == "Scan"
    assert first.mapping == "probe"
    assert first.filled == {
        "hosts.id": "_parent.ref",
        "hosts.name": "value",
        "rule.name": "what",
        "title": "what",
        "uid": "ref",
    }
    assert "severity is empty: none of level gives a value" in first.warnings
    assert "time is empty: none of at gives a value" in first.warnings
    assert (second.alert, second.code, second.reason) == (None, "not_an_object", "is a number, not an object")


def test_describing_says_which_mapping_would_be_detected() -> None:
    assert describe(BUILT_IN, record({"title": "t"}, "wazuh")).detected == ("generic",)
    assert describe(BUILT_IN, record(b"{")).elements[0].code == "not_json"
