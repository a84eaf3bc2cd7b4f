"""`${{ }}` in values: types are kept, and what was rendered is never looked at again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soar.errors import ExpressionError
from soar.expr.render import compile_template

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
attacks = (
    st.sampled_from(
        [
            "${{ vars.secret }}",
            "$${{ vars.secret }}",
            "{{ vars.secret }}",
            "}} ${{ vars.secret }}",
            "`1` || vars.secret",
            "'",
        ]
    )
    | st.text()
)


def render(value, **context):
    return compile_template(value).render(context)


@given(json_values)
def test_a_whole_expression_keeps_type_and_value(value):
    result = render("${{ vars.x }}", vars={"x": value})
    assert result == value
    assert type(result) is type(value)


@given(json_values)
def test_a_value_without_expressions_renders_to_itself(value):
    """Round trip: text that means nothing to us stays what it is."""
    if "${{" not in json.dumps(value):
        assert render(value) == value


@given(st.text(alphabet=st.characters(exclude_characters="$")))
def test_an_escaped_text_renders_to_the_text(text):
    assert render("$${{" + text) == "${{" + text


@given(attacks)
def test_what_an_alert_says_is_never_evaluated(text):
    """An alert may contain our own syntax: it comes out as the characters it is, at any depth."""
    context = {"alert": {"title": text, "raw": {"deep": [text]}}, "vars": {"secret": "SESAME"}}
    template = compile_template(
        {"title": "${{ alert.title }}", "line": "re: ${{ alert.title }}!", "deep": ["${{ alert.raw }}"]}
    )
    once = template.render(context)
    assert once == {"title": text, "line": f"re: {text}!", "deep": [{"deep": [text]}]}
    assert "SESAME" not in json.dumps(once) or "SESAME" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "<>"),
        ("a", "<a>"),
        (5, "<5>"),
        (True, "<true>"),
        ([1, None], "<[1, null]>"),
        ({"é": "ü"}, '<{"é": "ü"}>'),
    ],
)
def test_within_text_a_value_becomes_text(value, text):
    assert render("<${{ vars.x }}>", vars={"x": value}) == text


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("${{ '}}' }}", "}}"),
        ("${{ {a: {b: x}} }}", {"a": {"b": 1}}),
        ("${{ {a: {b: x}}}}", {"a": {"b": 1}}),
        ('${{ `"}}"` }}', "}}"),
        ('${{ "}}" }}', None),
        ("${{ 'it\\'s }}' }}", "it's }}"),
        ("$${{ x }}", "${{ x }}"),
        ("a $${{ x }} ${{ x }}", "a ${{ x }} 1"),
        ("${{ x }}${{ x }}", "11"),
        ("${{x}}", 1),
        (" ${{ x }}", " 1"),
        ("$$ {{ x }} }} {", "$$ {{ x }} }} {"),
        ("${{ '$' }}${{ x }}", "$1"),
    ],
)
def test_where_an_expression_ends(template, value):
    assert render(template, x=1) == value


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("${{ a", "has no end: it is not closed; close it with }}"),
        ("${{ 'a }}", "has no end: the ' in it is not closed"),
        ("${{ }}", "is empty; write a JMESPath expression"),
        ("${{ a == }}", "ends too early"),
        ({"${{ a }}": 1}, "only values are rendered, write the key out"),
    ],
)
def test_a_wrong_template_is_refused(value, why):
    with pytest.raises(ExpressionError) as failure:
        compile_template({"deep": [value]})
    assert why in str(failure.value)


def test_text_that_grows_beyond_the_bound_is_refused():
    with pytest.raises(ExpressionError, match="more than 1000000 characters"):
        render("${{ x }}${{ x }}", x="a" * 600_000)


def test_expressions_are_listed_in_order():
    template = compile_template({"a": ["${{ x.y }}", "b ${{ z }} ${{ w }}"], "c": 1})
    assert [expression.source for expression in template.expressions()] == ["x.y", "z", "w"]


def test_rendering_changes_neither_template_nor_context():
    context = {"alert": {"tags": ["a"]}}
    template = compile_template({"tags": "${{ alert.tags }}"})
    template.render(context)["tags"].append("b")
    assert context == {"alert": {"tags": ["a"]}}
    assert template.render(context) == {"tags": ["a"]}
