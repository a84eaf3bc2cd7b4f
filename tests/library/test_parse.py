"""YAML of every step form -> the frozen types, with lines."""

import hashlib
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from soar.library.blocks import walk
from soar.library.parse import parse
from soar.model.alert import Severity
from soar.model.playbook import DedupeMode, Match


def test_every_form_becomes_its_type(whole):
    parsed = parse(whole, "whole.yaml")
    assert parsed.errors == []
    playbook = parsed.playbook
    assert [step.kind for step in playbook.steps] == ["use", "if", "switch", "parallel", "foreach"]
    kinds = "use if stop set switch wait wait wait parallel wait call foreach ask stop stop"
    assert [step.kind for step, _ in walk(playbook)] == kinds.split()


def test_every_value_arrives(whole):
    playbook = parse(whole, "whole.yaml").playbook
    act, _, switch, parallel, foreach = playbook.steps
    assert (playbook.id, playbook.file, playbook.author, playbook.mode) == ("whole", "whole.yaml", "ada", "shadow")
    assert act.retry.backoff.from_ == timedelta(seconds=2)
    assert act.approval.groups[0].min == 2
    assert act.verify.within == timedelta(minutes=5)
    assert act.undo.after == timedelta(days=1)
    assert switch.cases["5"][0].for_ == switch.cases["high"][0].for_ == timedelta(minutes=1)
    assert switch.default[0].until == "alert.time"
    assert parallel.parallel[0].for_alert.match["source"].any_of == ("x",)
    assert (foreach.as_, foreach.limit, foreach.concurrency) == ("user", 5, 2)
    assert foreach.on_error[0].id == "sorry"
    assert playbook.dedupe.key == ("rule.id",)
    assert (playbook.dedupe.mode, playbook.dedupe.count) == (DedupeMode.THRESHOLD, 5)


def test_match_operators(whole):
    match = parse(whole, "whole.yaml").playbook.on.match
    assert match["source"] == Match(any_of=("okta",))
    assert match["rule.id"].any_of == ("a", 5, True)
    assert match["severity"].at_least is Severity.HIGH
    assert match["severity_score"] == Match(at_least=40, at_most=90)
    assert match["title"] == Match(prefix=("Ransom",), suffix=("a", "b"), none_of=("x",), exists=True)


def test_every_step_knows_its_line(whole):
    lines = whole.split("\n")
    for step, _ in walk(parse(whole, "whole.yaml").playbook):
        assert step.line > 0
        if step.id:
            assert f"id: {step.id}" in lines[step.line - 1]


def test_the_digest_is_over_the_bytes(whole):
    assert parse(whole, "a.yaml").playbook.digest == hashlib.sha256(whole.encode()).hexdigest()
    assert parse(whole + "\n", "a.yaml").playbook.digest != parse(whole, "a.yaml").playbook.digest


def test_all_errors_of_a_file_come_at_once_in_its_order():
    text = "playbook: p\nowner: 5\nsteps:\n  - {stop: x}\n  - {use: a, wiht: {}}\n  - {if: a}\nlck: a\n"
    places = [(error.place.line, error.place.column) for error in parse(text, "p.yaml").errors]
    assert places == [(1, 1), (2, 8), (4, 12), (5, 14), (6, 5), (7, 1)]


def test_a_file_cut_anywhere_is_read_or_refused(whole):
    """Half-saved files are common; each gives a playbook or errors with places, never an exception."""
    for cut in range(0, len(whole), 5):
        parsed = parse(whole[:cut], "whole.yaml")
        assert (parsed.playbook is None) == bool(parsed.errors)
        assert all(error.place.file == "whole.yaml" for error in parsed.errors)


words = st.sampled_from(
    [
        "use",
        "if",
        "then",
        "wait",
        "steps",
        "playbook",
        "on",
        "match",
        "switch",
        "cases",
        "set",
        "stop",
        "ask",
        "x",
        "10m",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | words
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4), max_leaves=15
)


@given(
    st.dictionaries(words, documents, max_size=5), st.lists(st.dictionaries(words, documents, max_size=4), max_size=4)
)
def test_any_document_gives_a_playbook_or_errors(document, steps):
    """Whatever shape the YAML has, the parser answers with places instead of raising."""
    import json

    parsed = parse(json.dumps({**document, "steps": steps}), "any.yaml")
    assert (parsed.playbook is None) == bool(parsed.errors)
