"""The trigger index answers exactly as asking every playbook in turn would."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soar.library.fields import split_path, values_at
from soar.library.index import Check, TriggerIndex, explain
from soar.library.parse import parse
from soar.model.playbook import Match

from . import naive

STEPS = "steps: [{stop: succeeded}]"


def playbook(name, on, mode="live"):
    parsed = parse(
        f"playbook: {name}\ndescription: d\nowner: o\nmode: {mode}\non: {json.dumps(on)}\n{STEPS}\n", f"{name}.yaml"
    )
    assert not parsed.errors, parsed.errors
    return parsed.playbook


def alert(**fields):
    return {
        "source": "okta",
        "severity": "high",
        "severity_score": 70,
        "title": "Brute force",
        "confidence": None,
        "rule": {"id": "r1", "name": None},
        "entities": {"hosts": [{"name": "ws-1"}, {"name": "srv-2"}], "users": []},
        "observables": {"ip": ["10.0.0.1", "203.0.113.9"], "sha256": []},
        "labels": {"a.b": "x"},
        "raw": {"n": 1, "flag": True, "deep": [{"v": [1, 2]}, {"v": 3}]},
        **fields,
    }


HOLDS = [
    {"match": {"source": "okta"}},
    {"match": {"source": ["x", "okta"], "rule.id": "r1"}},
    {"match": {"severity": {"at_least": "medium"}}},
    {"match": {"severity": {"at_least": "high", "at_most": "high"}}},
    {"match": {"severity_score": {"at_least": 70}}},
    {"match": {"severity_score": {"at_most": 70.0}}},
    {"match": {"entities.hosts[].name": "srv-2"}},
    {"match": {"entities.hosts.name": ["srv-2"]}},
    {"match": {"entities.hosts[].name": {"prefix": "srv-"}}},
    {"match": {"title": {"suffix": ["x", "force"]}}},
    {"match": {"title": {"none_of": ["x"]}}},
    {"match": {"rule.name": {"none_of": ["x"]}}},
    {"match": {"rule.name": {"exists": False}, "rule.id": {"exists": True}}},
    {"match": {"entities.users[].name": {"exists": False}}},
    {"match": {"observables.sha256": {"exists": False}}},
    {"match": {"observables.ip": {"cidr": ["203.0.113.0/24"]}}},
    {"match": {"observables.ip": {"not_cidr": ["192.168.0.0/16", "2001:db8::/32"]}}},
    {"match": {"observables.sha256": {"not_cidr": "0.0.0.0/0"}}},
    {"match": {"title": {"not_prefix": "Test", "not_suffix": ["ok", "done"]}}},
    {"match": {"title": {"wildcard": "Br*fo*e"}}},
    {"match": {"title": {"wildcard": ["nothing", "*te fo*"]}}},
    {"match": {"title": {"wildcard": "*"}}},
    {"match": {"title": {"wildcard": "*e"}}},
    {"match": {"title": {"wildcard": "Brute force"}}},
    {"match": {"entities.hosts[].name": {"wildcard": "srv-*", "not_wildcard": "*-9*"}}},
    {"match": {"observables.sha256": {"not_wildcard": "*"}}},
    {"match": {'labels."a.b"': "x"}},
    {"match": {"raw.n": 1}},
    {"match": {"raw.flag": True}},
    {"match": {"raw.deep.v": 3}},
    {"match": {"raw.deep[].v[]": {"at_least": 3}}},
    {"where": "length(entities.hosts) == `2`"},
    {"match": {"source": "okta"}, "where": "contains(title, 'force')"},
    {"match": {"entities.hosts.name": "ws-1", "entities.hosts[].name": "srv-2"}},
]
HOLDS_NOT = [
    {"match": {"source": "Okta"}},
    {"match": {"source": "okta", "rule.id": "r2"}},
    {"match": {"severity": {"at_least": "critical"}}},
    {"match": {"severity": {"at_least": 0}}},
    {"match": {"severity_score": {"at_least": 70.5}}},
    {"match": {"severity_score": {"at_most": 69}}},
    {"match": {"confidence": {"at_least": 0}}},
    {"match": {"entities.hosts[].name": "ws"}},
    {"match": {"title": {"prefix": "brute"}}},
    {"match": {"entities.hosts[].name": {"none_of": ["ws-1"]}}},
    {"match": {"rule.name": {"exists": True}}},
    {"match": {"observables.ip": {"cidr": "192.168.0.0/16"}}},
    {"match": {"title": {"cidr": "0.0.0.0/0"}}},
    {"match": {"observables.ip": {"not_cidr": "203.0.113.0/24"}}},
    {"match": {"observables.ip": {"cidr": "::/0"}}},
    {"match": {"title": {"not_prefix": ["x", "Brute"]}}},
    {"match": {"title": {"not_suffix": "force"}}},
    {"match": {"title": {"wildcard": "brute*"}}},
    {"match": {"title": {"wildcard": "Brute fo*force"}}},
    {"match": {"title": {"wildcard": "*force*Brute*"}}},
    {"match": {"title": {"wildcard": ""}}},
    {"match": {"title": {"not_wildcard": "*e f*"}}},
    {"match": {"raw.n": {"wildcard": "*"}}},
    {"match": {"observables.sha256": {"wildcard": "*"}}},
    {"match": {"raw.n": True}},
    {"match": {"raw.flag": 1}},
    {"match": {"raw.deep": 3}},
    {"where": "entities.users"},
    {"where": "join(',', rule.name)"},
    {"match": {"entities.hosts.name": "ws-1", "entities.hosts[].name": "no"}},
]


@pytest.mark.parametrize("on", HOLDS)
def test_a_trigger_holds(on):
    one = playbook("p", on)
    assert TriggerIndex([one]).match(alert()) == [one]
    assert all(check.held for check in explain(one, alert()))


@pytest.mark.parametrize("on", HOLDS_NOT)
def test_a_trigger_does_not_hold_and_explain_says_which_condition(on):
    one = playbook("p", on)
    assert TriggerIndex([one]).match(alert()) == []
    assert not all(check.held for check in explain(one, alert()))


def test_among_many_exactly_those_that_hold_are_found_in_order():
    good = [playbook(f"good-{n}", on) for n, on in enumerate(HOLDS)]
    bad = [playbook(f"bad-{n}", on) for n, on in enumerate(HOLDS_NOT)]
    mixed = [one for pair in zip(good, [*bad, *bad], strict=False) for one in pair]
    assert TriggerIndex(mixed).match(alert()) == [one for one in mixed if one in good]


def test_a_playbook_without_a_trigger_or_switched_off_is_never_found():
    sub = parse(f"playbook: sub\ndescription: d\nowner: o\n{STEPS}\n", "sub.yaml").playbook
    off = playbook("off", {"match": {"source": "okta"}}, mode="off")
    shadow = playbook("shadow", {"match": {"source": "okta"}}, mode="shadow")
    index = TriggerIndex([sub, off, shadow])
    assert len(index) == 1
    assert index.match(alert()) == [shadow]
    assert explain(sub, alert())[0] == Check("has a trigger", False, "only called by other playbooks or by hand")
    assert explain(off, alert())[0] == Check("is not switched off", False, "off")


def test_explain_shows_condition_by_condition_what_was_there():
    one = playbook(
        "p", {"match": {"source": ["a", "b"], "severity": {"at_least": "low"}, "rule.name": "x"}, "where": "title"}
    )
    assert explain(one, alert()) == [
        Check("is not switched off", True, "live"),
        Check("source is any of a, b", False, "okta"),
        Check("severity is at least low", True, "high"),
        Check("rule.name is any of x", False, []),
        Check("title", True, "Brute force"),
    ]


def test_a_where_that_cannot_be_computed_does_not_hold_and_says_why():
    one = playbook("p", {"where": "join(',', rule.name)"})
    assert TriggerIndex([one]).match(alert()) == []
    check = explain(one, alert())[-1]
    assert not check.held
    assert "join() takes a list of text, not null" in check.actual


def test_a_list_of_no_values_is_held_by_no_alert():
    one = playbook("p", {"match": {"source": "okta"}})
    nothing = one.model_copy(update={"on": one.on.model_copy(update={"match": {"source": Match(any_of=())}})})
    assert TriggerIndex([nothing, one]).match(alert()) == [one]


def test_an_empty_index_matches_nothing():
    assert TriggerIndex([]).match(alert()) == []


def test_a_long_text_is_like_a_pattern_in_linear_time():
    """`.*` in a row would take for ever; where this is slow the test's time limit ends it."""
    one = playbook("p", {"match": {"title": {"wildcard": "*a" * 200 + "*b"}}})
    assert TriggerIndex([one]).match(alert(title="a" * 100_000)) == []
    assert TriggerIndex([one]).match(alert(title="a" * 100_000 + "b")) == [one]


FEW = [
    {"source": "s{n}"},
    {"title": {"prefix": "Nothing {n}"}},
    {"title": {"suffix": "nothing {n}"}},
    {"title": {"wildcard": "*nothing {n}*"}},
    {"title": {"wildcard": ["{n}*nothing", "no*{n}"]}},
    {"observables.ip": {"cidr": "172.16.{n}.0/24"}},
    {"severity_score": {"at_least": "1{n}"}},
    {"severity_score": {"at_most": "-{n}"}},
    {"source": "okta", "title": {"not_prefix": "Brute"}, "rule.id": "r{n}"},
    {"source": {"none_of": ["okta", "s{n}"]}},
    {"title": {"not_wildcard": ["Brute*", "*{n}"]}},
    {"observables.ip": {"not_cidr": ["10.0.0.0/8", "172.16.{n}.0/24"]}},
    {"rule.name": {"exists": True}, "rule.id": "r{n}"},
]


@pytest.mark.parametrize("match", FEW, ids=lambda match: " ".join(json.dumps(list(match.values())).split()))
def test_those_that_do_not_match_are_not_even_looked_at(match):
    """Counted in calls, which is the same on any machine: 150 playbooks cost what 10 do."""

    def calls(count):
        ons = (json.loads(json.dumps(match).replace("{n}", str(100 + n))) for n in range(count))
        index = TriggerIndex([playbook(f"p{n}", {"match": numbers(on)}) for n, on in enumerate(ons)])
        made = 0

        def count_one(_frame, event, _argument):
            nonlocal made
            made += event in {"call", "c_call"}

        sys.setprofile(count_one)
        try:
            found = index.match(alert())
        finally:
            sys.setprofile(None)
        assert not found
        return made

    calls(1)  # what is compiled once
    assert calls(150) <= calls(10) + 2


def numbers(on):
    """Thresholds are numbers, whatever was put into the text."""
    score = on.get("severity_score")
    return on if score is None else {"severity_score": {name: int(value) for name, value in score.items()}}


values = st.sampled_from(["a", "b", "low", "high", 1, 2, 50, True, False, "10.0.0.1", "10.0.9.9", "::1", "a*b"])
texts = st.text("ab*", max_size=6)
patterns = st.text("ab**", max_size=6)
networks = st.sampled_from(["10.0.0.0/24", "10.0.0.0/8", "10.0.0.1", "0.0.0.0/0", "::/0", "::1/128"])


def several(operator, operands):
    return st.builds(lambda given: {operator: given}, operands | st.lists(operands, min_size=1, max_size=3))


operators = st.one_of(
    st.lists(values, min_size=1, max_size=3),
    values,
    *(st.builds(lambda v, o=o: {o: v}, st.sampled_from(["low", "high", 1, 50, 1.5])) for o in ("at_least", "at_most")),
    *(several(operator, values) for operator in ("any_of", "none_of")),
    *(several(operator, texts) for operator in ("prefix", "not_prefix", "suffix", "not_suffix")),
    *(several(operator, patterns) for operator in ("wildcard", "not_wildcard")),
    *(several(operator, networks) for operator in ("cidr", "not_cidr")),
    st.builds(lambda v: {"exists": v}, st.booleans()),
    st.builds(lambda low, high: {"at_least": low, "at_most": high}, st.integers(0, 3), st.integers(0, 60)),
    st.builds(lambda p, n: {"prefix": p, "not_wildcard": n}, texts, patterns),
)
fields = st.sampled_from(["raw.a", "raw.b", "raw.c.d", "raw.c[].d", "source"])
matches = st.dictionaries(fields, operators, min_size=1, max_size=3)
triggers = st.builds(lambda m: {"match": m}, matches)
wheres = st.sampled_from(["raw.a", "raw.b == 'a'", "length(raw.c) > `1`"]).map(lambda w: {"where": w})
inner = st.none() | values | texts | st.lists(values | texts, max_size=3)
documents = st.fixed_dictionaries(
    {
        "source": values,
        "raw": st.fixed_dictionaries(
            {"a": inner, "c": st.lists(st.fixed_dictionaries({"d": inner}), max_size=3) | inner}, optional={"b": inner}
        ),
    }
)


@given(st.lists(matches, min_size=1, max_size=12), st.lists(documents, min_size=1, max_size=4))
def test_the_index_agrees_with_the_manual(ons, alerts):
    """`naive` is the meaning, written apart from the code that it is held against; `explain` says the same."""
    playbooks = [playbook(f"p{number}", {"match": on}) for number, on in enumerate(ons)]
    index = TriggerIndex(playbooks)
    for document in alerts:
        meant = [one for one, on in zip(playbooks, ons, strict=True) if naive.holds(on, document)]
        assert index.match(document) == meant
        assert [one for one in playbooks if all(check.held for check in explain(one, document))] == meant


@given(st.lists(triggers | wheres, max_size=12), st.lists(documents, min_size=1, max_size=4))
def test_the_index_agrees_with_asking_every_playbook(ons, alerts):
    """With `where` too, which only candidates run."""
    playbooks = [playbook(f"p{number}", on) for number, on in enumerate(ons)]
    index = TriggerIndex(playbooks)
    for document in alerts:
        slow = [one for one in playbooks if all(check.held for check in explain(one, document))]
        assert index.match(document) == slow


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("a", ("a",)),
        ("a.b-c", ("a", "b-c")),
        ("a[].b[]", ("a", "b")),
        ('raw."a.b"[].c', ("raw", "a.b", "c")),
        ("", None),
        ("a.", None),
        ("a..b", None),
        ("a[0]", None),
        ("a b", None),
    ],
)
def test_field_paths(path, parts):
    assert split_path(path) == parts


def test_values_spread_over_lists_and_null_is_nothing():
    assert values_at({"a": [{"b": [1, [2]]}, {"b": None}, {}, 5]}, ("a", "b")) == [1, 2]
