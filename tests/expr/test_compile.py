"""Expressions: compiled once, evaluated within bounds, wrong ones refused with a column and a remedy."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soar.errors import ExpressionError
from soar.expr.bounds import MAX_NODES, MAX_WORK
from soar.expr.compile import compile_expression, truthy
from soar.expr.functions import known
from soar.expr.syntax import MAX_SOURCE, MAX_TREE

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def outcome(source, context):
    """What an expression gives, or why it does not."""
    try:
        return compile_expression(source).evaluate(context)
    except ExpressionError as failure:
        return str(failure)


CONTEXT = {
    "alert": {
        "title": "Mass encryption on WS-1",
        "severity_score": 90,
        "source": "crowdstrike",
        "rule": {"id": None, "name": "ransom"},
        "entities": {"hosts": [{"name": "ws-1"}, {"name": "ws-2"}], "ips": [{"address": "10.1.2.3"}, {"address": "x"}]},
    }
}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("alert.severity_score >= `80`", True),
        ("alert.entities.hosts[*].name", ["ws-1", "ws-2"]),
        ("alert.entities.nothing[0].name", None),
        ("lower(alert.title)", "mass encryption on ws-1"),
        ("upper(alert.source)", "CROWDSTRIKE"),
        ("lower(alert.rule.id)", None),
        ("trim(' a ')", "a"),
        ("split(alert.title, ' ')[0]", "Mass"),
        ("split(alert.rule.id, ',')", None),
        ("default(alert.rule.id, 'none')", "none"),
        ("default(alert.rule.name, 'none')", "ransom"),
        ("matches(alert.title, '(?i)mass\\s+ENCRYPT')", True),
        ("matches(alert.rule.id, 'x')", False),
        ("alert.entities.ips[?cidr_contains('10.0.0.0/8', address)].address", ["10.1.2.3"]),
        ("cidr_contains('2001:db8::/32', '2001:db8::1')", True),
        ("'a' < `1`", None),
        ("`0` == `false`", False),
    ],
)
def test_an_expression_gives(source, value):
    assert compile_expression(source).evaluate(CONTEXT) == value


@pytest.mark.parametrize(
    ("source", "column", "remedy"),
    [
        ("", None, "is empty; write a JMESPath expression"),
        ("a == ", 6, "ends too early; complete it"),
        ("a[?b", 5, "ends too early; complete it"),
        ("!a.b", None, "`!a.b` asks for the field b of `!a`, which is never there; write !(a.b)"),
        ("a && !b.c.d", None, "write !(a.b)"),
        ("a > 5", 5, "a number stands between backticks; write `5`"),
        ("a == true", 6, "true would be read as a field; write `true` between backticks"),
        ('a == "high"', 6, "\"high\" names a field; write 'high' for text"),
        ("a = 'b'", 3, "'=' compares nothing; write =="),
        ("a - b", 3, "'-' means nothing here; JMESPath has no arithmetic"),
        ("a b", 3, "'b' is not expected here; check brackets, commas and operators"),
        ("a)b", 2, "')' is not expected here"),
        ("x == 'abc", 6, "the ' is not closed; close it"),
        ("x == `abc`", 6, "`abc` is not JSON; write text between single quotes"),
        ("x == `NaN`", 6, "`NaN` is not JSON"),
        ("lenght(x)", 1, "no function lenght(); did you mean 'length'?"),
        ("a && frobnicate(x)", 6, "no function frobnicate()"),
        ("length(a, b)", 1, "length() takes 1 argument, not 2"),
        ("merge()", 1, "merge() takes at least 1 argument, not 0"),
        ("matches(a, b)", 1, "the pattern of matches() is fixed text; write it between single quotes"),
        ("matches(a, '(')", None, "'(' is no RE2 pattern"),
        ("matches(a, '(a)\\1')", None, "is no RE2 pattern"),
        ("cidr_contains('10.0.0.0/33', a)", None, "'10.0.0.0/33' is no network; write it as 10.0.0.0/8"),
        ('"a"(b)', 1, "a function's name is not quoted; remove the quotes"),
        ("a[::0]", None, "a slice cannot step by 0"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_column_and_the_remedy(source, column, remedy):
    with pytest.raises(ExpressionError) as failure:
        compile_expression(source)
    said = str(failure.value)
    assert repr(source) in said
    assert remedy in said
    assert (f"at column {column}:" in said) if column else ("at column" not in said)


def test_a_column_is_right_behind_a_filter_whose_tree_is_in_another_order():
    with pytest.raises(ExpressionError, match=r"at column 21: no function lowr\(\); did you mean 'lower'\?"):
        compile_expression("a[?length(b) >`1`].[lowr(c)]")


@pytest.mark.parametrize(
    "source",
    [
        "a" * (MAX_SOURCE + 1),
        "(" * 200 + "a" + ")" * 200,
        "!" * 1000 + "a",
        "`" + "[" * 1500 + "]" * 1500 + "`",
        "||".join("a" for _ in range(MAX_TREE + 1)),
        "a" + "[]" * 140,
        "a" + ".*" * 140,
        "&" * 500 + "a",
    ],
)
def test_text_that_would_make_the_parser_recurse_is_refused(source):
    with pytest.raises(ExpressionError, match=r"longer than|more than|nested deeper"):
        compile_expression(source)


@pytest.mark.parametrize(
    "source",
    [
        "|".join(["[@,@]"] * 40),
        "|".join(["[@,@]"] * 40) + "|to_string(@)",
        "|".join(["[@,@]"] * 40) + "|@ == [@]",
        "a|" + "|".join(["join('',[@,@])"] * 40),
        "a|" + "|".join(["to_string([@,@])"] * 40),
        "join(a, numbers[].to_string(@))",
        "map(&map(&map(&length(@), `[[],[],[],[],[],[],[],[]]`), @), [numbers,numbers])",
        "wide[].wide[]",
    ],
)
def test_an_expression_that_grows_is_stopped_or_small(source):
    """Whatever it says, it ends soon: with an error in our words, or with a result within the bounds."""
    context = {"a": "x" * 5000, "numbers": list(range(3000)), "wide": [{"wide": list(range(400))} for _ in range(400)]}
    assert len(json.dumps(outcome(source, context))) < 10 * MAX_WORK


def test_a_result_of_too_many_values_is_refused():
    with pytest.raises(ExpressionError, match=f"more than {MAX_NODES} values"):
        compile_expression("@").evaluate({"a": list(range(MAX_NODES))})


def test_a_projection_over_a_large_alert_stops_at_the_budget():
    with pytest.raises(ExpressionError, match=f"more than {MAX_WORK} steps on this input; narrow it"):
        compile_expression("length(a[].b)").evaluate({"a": [{"b": 1}] * MAX_WORK})


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("&a", "gives an expression"),
        ("to_number('1e999')", "a number that JSON cannot hold"),
        ("join(',', a)", "join() takes a list of text, not null; use default(value, otherwise)"),
        ("sum(b)", "sum() takes a list of numbers"),
        ("length(`5`)", "length() takes text or a list or an object, not a number"),
    ],
)
def test_what_cannot_be_computed_on_an_input_says_why(source, why):
    with pytest.raises(ExpressionError) as failure:
        compile_expression(source).evaluate({"b": ["x"]})
    assert why in str(failure.value)


@given(json_values)
def test_the_whole_context_comes_back_equal_and_shares_nothing(value):
    """`@` is the identity; what it gives may be changed without changing what was read."""
    context = {"a": value}
    result = compile_expression("@").evaluate(context)
    assert result == context
    assert json.dumps(result) == json.dumps(context)
    if isinstance(value, dict | list):
        assert result["a"] is not value


@given(st.text(max_size=80))
def test_any_text_compiles_or_is_refused_in_our_words(source):
    """Nothing but ExpressionError ever leaves the compiler, and no text of the parser library."""
    assert "Expecting" not in json.dumps(outcome(source, {}))


fragments = st.lists(
    st.sampled_from(
        [*"abc.[]()*@&|!,:{}?<>=-`'\"\\ 01", "&&", "||", "==", "length(", "[?", "`1`", "'x'", "{a: b}", "[0]", "[:2]"]
    ),
    max_size=14,
).map("".join)


@given(fragments, json_values)
def test_any_expression_evaluates_to_json_or_is_refused(source, value):
    assert json.dumps(outcome(source, {"a": value, "b": [value]}), allow_nan=False)


@given(st.lists(st.sampled_from(["a", "b", "0", "get"]), min_size=1, max_size=5), json_values)
def test_a_path_gives_what_the_language_says_of_it(names, value):
    """A path is read without the interpreter, which its value piped through `@` goes to."""
    path = ".".join(f'"{name}"' for name in names)
    context = {"a": {"b": {"a": value, "0": [value]}, "get": value}, "b": value}
    assert outcome(path, context) == outcome(f"{path} | @", context)


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("steps.intel.result.tags[0]", [("steps", "intel", "result", "tags")]),
        ("steps.a.ok && alert.severity == 'high'", [("steps", "a", "ok"), ("alert", "severity")]),
        (
            "alert.entities.hosts[?name == 'x'].id",
            [("alert", "entities", "hosts", "name"), ("alert", "entities", "hosts", "id")],
        ),
        ("length(alert.title)", [("alert", "title")]),
        ("map(&name, alert.entities.users)", [("alert", "entities", "users"), ("alert", "entities", "users", "name")]),
        ("{a: run.id, b: vars.x[]}", [("run", "id"), ("vars", "x")]),
        ("alert.labels.*", [("alert", "labels", "*")]),
        ("alert.raw | @.x", [("alert", "raw", "x")]),
        ("'text'", []),
    ],
)
def test_references_are_the_paths_that_are_read(source, paths):
    assert compile_expression(source).references() == paths


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_empty_values_are_not_true(value):
    assert not truthy(value)


@pytest.mark.parametrize("value", [0, 0.0, True, "0", [None], {"a": None}])
def test_all_other_values_are_true(value):
    assert truthy(value)


def test_equal_texts_are_compiled_once():
    assert compile_expression("alert.title") is compile_expression("alert.title")


def test_the_analysts_functions_are_there():
    assert {"lower", "upper", "trim", "split", "default", "matches", "cidr_contains"} <= set(known())
