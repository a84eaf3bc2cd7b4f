"""`${{ expression }}` inside values.

A value that is exactly one `${{ }}` becomes what the expression gives, with its type. Within longer text it becomes
text: text as it is, null as nothing, anything else as JSON. What was rendered is never looked at again, so an
alert that contains `${{ }}` shows exactly those characters. `$${{` writes `${{` itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from soar.errors import ExpressionError
from soar.expr.bounds import MAX_TEXT
from soar.expr.compile import CACHED, Expression, compile_expression

_OPEN = "${{"
_ESCAPED = "$${{"
_QUOTES = "'\"`"


@dataclass(frozen=True, slots=True)
class _Text:
    """Text with expressions in it: each part is literal text or an expression."""

    parts: tuple[str | Expression, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A JSON value whose text was split into literal parts and expressions, once."""

    value: Any

    def render(self, context: Mapping[str, Any]) -> Any:
        """The value with every expression replaced; pure. Raises ExpressionError, also for too much text."""
        return _render(self.value, context)

    def expressions(self) -> list[Expression]:
        """Every expression in it, in order."""
        return list(_expressions(self.value))


def compile_template(value: Any) -> Template:
    """Split the texts of a JSON value; raises ExpressionError for the first that is wrong."""
    return Template(_compile(value))


def _compile(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value) if _OPEN in value else value
    if isinstance(value, dict):
        for key in value:
            if _OPEN in str(key):
                raise ExpressionError(
                    f"the key {key!r} holds an expression; only values are rendered, write the key out"
                )
        return {key: _compile(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_compile(child) for child in value]
    return value


@lru_cache(maxsize=CACHED)
def _text(text: str) -> Expression | _Text | str:
    """What a text is made of; only texts of playbooks come here, again and again."""
    parts = list(_parts(text))
    if len(parts) == 1:
        return parts[0]
    return _Text(tuple(parts))


def _parts(text: str) -> Iterator[str | Expression]:
    """Literal text and expressions, in order; neighbouring literals are joined."""
    literal, at = "", 0
    while (start := text.find(_OPEN, at)) >= 0:
        if start > at and text.startswith(_ESCAPED, start - 1):
            literal += text[at : start - 1] + _OPEN
            at = start + len(_OPEN)
            continue
        end = _end(text, start + len(_OPEN))
        literal += text[at:start]
        if literal:
            yield literal
        yield compile_expression(text[start + len(_OPEN) : end].strip())
        literal, at = "", end + 2
    if literal or at < len(text):
        yield literal + text[at:]


def _end(text: str, start: int) -> int:
    """Where the `}}` stands that closes an expression: not one within quotes, nor one that closes `{ }` of its own."""
    quote, depth, at = "", 0, start
    while at < len(text):
        character = text[at]
        if quote:
            if character == "\\":
                at += 1
            elif character == quote:
                quote = ""
        elif character in _QUOTES:
            quote = character
        elif character == "{":
            depth += 1
        elif character == "}" and depth:
            depth -= 1
        elif text.startswith("}}", at):
            return at
        at += 1
    missing = f"the {quote} in it is" if quote else "it is"
    shown = text[start - len(_OPEN) :]
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    raise ExpressionError(
        f"expression {shown!r} has no end: {missing} not closed; close it with }}}}, or write $${{{{ for text"
    )


def _render(value: Any, context: Mapping[str, Any]) -> Any:
    if isinstance(value, Expression):
        return value.evaluate(context)
    if isinstance(value, _Text):
        return _joined(value, context)
    if isinstance(value, dict):
        return {key: _render(child, context) for key, child in value.items()}
    if isinstance(value, list):
        return [_render(child, context) for child in value]
    return value


def _joined(text: _Text, context: Mapping[str, Any]) -> str:
    pieces = [part if isinstance(part, str) else as_text(part.evaluate(context)) for part in text.parts]
    if sum(map(len, pieces)) > MAX_TEXT:
        raise ExpressionError(f"text of more than {MAX_TEXT} characters was rendered; select less")
    return "".join(pieces)


def as_text(value: Any) -> str:
    """How a value reads inside text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _expressions(value: Any) -> Iterator[Expression]:
    if isinstance(value, Expression):
        yield value
    elif isinstance(value, _Text):
        yield from (part for part in value.parts if isinstance(part, Expression))
    elif isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from _expressions(child)
