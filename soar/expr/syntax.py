"""From an expression's text to a checked JMESPath tree, with errors that say where and what to write instead.

Bounds come first, so that nothing an expression's text can do makes the parser or the interpreter recurse far:
at most `MAX_SOURCE` characters, `MAX_OPENERS` characters that open something, a tree of at most `MAX_TREE` levels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import jmespath
from jmespath import exceptions
from jmespath.lexer import Lexer

from soar.errors import ExpressionError
from soar.expr.bounds import refuse
from soar.expr.functions import known, network_of, pattern_of
from soar.located import did_you_mean

MAX_SOURCE = 4_000
MAX_OPENERS = 150
MAX_TREE = 60

Tree = dict[str, Any]
Token = dict[str, Any]

_COMPARATORS = frozenset({"eq", "ne", "lt", "lte", "gt", "gte"})
_WORDS = frozenset({"true", "false", "null"})
_LITERAL_PLACES = MappingProxyType({"matches": (1, "pattern"), "cidr_contains": (0, "network")})


def parse(source: str) -> Tree:
    """The tree of an expression; raises ExpressionError for anything that is wrong with it."""
    _bound_text(source)
    try:
        tokens: list[Token] = [dict(token) for token in _StrictLexer().tokenize(source)]
        _check_words(tokens, source)
        tree: Tree = dict(jmespath.compile(source).parsed)
    except exceptions.ParseError as failure:
        raise _translated(failure, source) from failure
    _bound_tree(tree, source)
    _check_calls(tree, tokens, source)
    return tree


def _bound_text(source: str) -> None:
    if not source.strip():
        raise refuse(source, "is empty; write a JMESPath expression, such as alert.severity == 'high'")
    if len(source) > MAX_SOURCE:
        raise refuse(source, f"is longer than {MAX_SOURCE} characters; split it with set:")
    if sum(source.count(opener) for opener in "([{!&*") > MAX_OPENERS:
        raise refuse(source, f"has more than {MAX_OPENERS} brackets and operators; split it with set:")


class _StrictLexer(Lexer):
    """A literal between backticks is JSON; JMESPath's old leniency (`foo` for "foo") hides typing errors."""

    def _consume_literal(self) -> Any:
        start = self._position  # type: ignore[attr-defined]
        text = self._consume_until("`").replace("\\`", "`")  # type: ignore[attr-defined]
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except ValueError as failure:
            raise exceptions.LexerError(start, text, "literal") from failure
        return {"type": "literal", "value": value, "start": start, "end": self._position}  # type: ignore[attr-defined]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _translated(failure: exceptions.ParseError, source: str) -> ExpressionError:
    """What the parser found, in our words."""
    column = min(failure.lex_position, len(source)) + 1
    value = str(failure.token_value)
    if isinstance(failure, exceptions.LexerError):
        return refuse(source, _lexical(failure.message, value), column=column)
    kind = failure.token_type
    if kind in {None, "EOF"}:
        return refuse(source, "ends too early; complete it", column=len(source) + 1)
    if kind == "NUMBER":
        return refuse(source, f"a number stands between backticks; write `{value}`", column=column)
    if "Quoted" in failure.msg:
        return refuse(source, "a function's name is not quoted; remove the quotes", column=source.find('"') + 1)
    return refuse(source, f"{value!r} is not expected here; check brackets, commas and operators", column=column)


def _lexical(message: str, value: str) -> str:
    if message == "literal":
        return (
            f"`{value}` is not JSON; write text between single quotes, numbers, true, false and null between backticks"
        )
    if message.startswith("Unclosed"):
        return f"the {message.split()[1]} is not closed; close it"
    if value == "=":
        return "'=' compares nothing; write =="
    if "Unknown token" in message:
        return f"{value!r} means nothing here; JMESPath has no arithmetic and no such operator"
    return f"{value!r} is no field name; quote it as JSON does"


def _check_words(tokens: list[Token], source: str) -> None:
    """Refuse what JMESPath would read as a field that is never there: the classic slips of newcomers."""
    before: Token = {"type": "start"}
    for token, after in zip(tokens, [*tokens[1:], {"type": "eof"}], strict=True):
        kind, value = token["type"], token["value"]
        column = token["start"] + 1
        if kind == "unquoted_identifier" and value in _WORDS and before["type"] != "dot" and after["type"] != "colon":
            raise refuse(source, f"{value} would be read as a field; write `{value}` between backticks", column=column)
        if kind == "quoted_identifier" and before["type"] in _COMPARATORS:
            raise refuse(source, f"\"{value}\" names a field; write '{value}' for text", column=column)
        before = token


_DOTTED = frozenset({"subexpression", "value_projection"})


def _bound_tree(tree: Tree, source: str) -> None:
    stack = [(tree, 1)]
    while stack:
        node, depth = stack.pop()
        if depth > MAX_TREE:
            raise refuse(source, f"is nested deeper than {MAX_TREE} levels; split it with set:")
        if node["type"] in _DOTTED and node["children"][0]["type"] == "not_expression":
            raise refuse(source, "`!a.b` asks for the field b of `!a`, which is never there; write !(a.b)")
        if node["type"] == "slice" and node["children"][2] == 0:
            raise refuse(source, "a slice cannot step by 0; write [::1]")
        stack.extend((child, depth + 1) for child in children(node))


def children(node: Tree) -> list[Tree]:
    """A node's sub-trees in the order in which they stand in the text."""
    if node["type"] == "slice":
        return []
    below: list[Tree] = node["children"]
    if node["type"] == "filter_projection":
        return [below[0], below[2], below[1]]
    return below


def _calls(node: Tree) -> Iterator[Tree]:
    if node["type"] == "function_expression":
        yield node
    for child in children(node):
        yield from _calls(child)


def _check_calls(tree: Tree, tokens: list[Token], source: str) -> None:
    """Every function is known, gets as many arguments as it takes, and its patterns are fixed text."""
    declared = known()
    named = [one for one, two in pairwise(tokens) if _is_call(one, two)]
    for node, token in zip(_calls(tree), named, strict=True):
        name, column = node["value"], token["start"] + 1
        if name not in declared:
            raise refuse(source, f"no function {name}(){did_you_mean(name, declared)}", column=column)
        _check_arity(node, declared[name], source, column)
        if name in _LITERAL_PLACES:
            _check_literal(node, source, column)


def _is_call(one: Token, two: Token) -> bool:
    return (one["type"], two["type"]) == ("unquoted_identifier", "lparen")


def _check_arity(node: Tree, signature: list[dict[str, Any]], source: str, column: int) -> None:
    given, takes = len(node["children"]), len(signature)
    variadic = bool(signature) and bool(signature[-1].get("variadic"))
    if given == takes or (variadic and given > takes):
        return
    least = "at least " if variadic else ""
    plural = "" if takes == 1 else "s"
    raise refuse(source, f"{node['value']}() takes {least}{takes} argument{plural}, not {given}", column=column)


def _check_literal(node: Tree, source: str, column: int) -> None:
    """A pattern that came out of an alert would be an expression written by an attacker."""
    name = node["value"]
    index, what = _LITERAL_PLACES[name]
    argument = node["children"][index]
    if argument["type"] != "literal" or not isinstance(argument["value"], str):
        raise refuse(source, f"the {what} of {name}() is fixed text; write it between single quotes", column=column)
    check = pattern_of if name == "matches" else network_of
    check(argument["value"], source)
