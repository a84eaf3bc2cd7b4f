"""YAML read strictly, with the place of every value.

The YAML 1.2 core schema and no more: `yes`, `no`, `on`, `off` are text, `0777` and `1:30` are text, dates
are text. Aliases, anchors, tags, merge keys, several documents and duplicate keys are refused; depth and
size are bounded. What a file says is what a reader sees.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from soar.errors import InputError, Place

MAX_BYTES = 1_000_000
MAX_DEPTH = 50

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+))")
_ANCHOR_LIKE = re.compile(r"(?:^|[\s,\[{:])[&*][0-9A-Za-z_-]", re.MULTILINE)  # `&&` in a condition is none
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Located:
    """A document's plain value and where each part of it stands."""

    file: str
    value: Any
    places: dict[Path_, Place] = field(repr=False)
    key_places: dict[Path_, Place] = field(repr=False)

    def place(self, path: Iterable[str | int], *, key: bool = False) -> Place:
        """Where `path` stands, or its nearest parent that stands anywhere; `key` asks for the key, not the value."""
        at = tuple(path)
        if key and at in self.key_places:
            return self.key_places[at]
        while at and at not in self.places:
            at = at[:-1]
        return self.places.get(at, Place(self.file))


def read_text(path: Path, error: type[InputError]) -> str:
    """The text of a file; raises `error` where it cannot be read, is too large or is not UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as failure:
        raise error(f"cannot be read: {failure.strerror}", Place(str(path))) from failure
    if len(data) > MAX_BYTES:
        raise error(f"is {len(data)} bytes; at most {MAX_BYTES} are read", Place(str(path)))
    try:
        return data.decode()
    except UnicodeDecodeError as failure:
        raise error(f"is not UTF-8 (byte {failure.start}); save it as UTF-8", Place(str(path))) from failure


def load(text: str, file: str, error: type[InputError]) -> Located:
    """The document in `text`; raises `error` at the first thing that is not strict YAML."""
    if len(text) > MAX_BYTES:
        raise error(f"is {len(text)} characters; at most {MAX_BYTES} are read", Place(file))
    try:
        _refuse_aliases(text, file, error)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as failure:
        mark = failure.problem_mark or failure.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        raise error(f"is no YAML: {failure.problem or failure.context}", place) from failure
    except yaml.YAMLError as failure:
        raise error(f"is no YAML: {failure}", Place(file)) from failure
    reader = _Reader(file, error)
    value = reader.read(node, (), 0) if node is not None else None
    return Located(file, value, reader.places, reader.key_places)


def _refuse_aliases(text: str, file: str, error: type[InputError]) -> None:
    """Composing expands nothing, but an alias would make one node two values; nested ones are a bomb."""
    if not _ANCHOR_LIKE.search(text):
        return
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            mark = event.start_mark
            place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
            raise error("anchors and aliases are not allowed; write the value out, or quote the text", place)


class _Reader:
    def __init__(self, file: str, error: type[InputError]) -> None:
        self.file = file
        self.error = error
        self.places: dict[Path_, Place] = {}
        self.key_places: dict[Path_, Place] = {}

    def at(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def read(self, node: yaml.Node, path: Path_, depth: int) -> Any:
        self.places[path] = self.at(node)
        if depth > MAX_DEPTH:
            raise self.error(f"is nested deeper than {MAX_DEPTH} levels", self.at(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            self.refuse_tag(node, "tag:yaml.org,2002:seq")
            return [self.read(child, (*path, index), depth + 1) for index, child in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self.scalar(node)

    def mapping(self, node: yaml.MappingNode, path: Path_, depth: int) -> dict[str, Any]:
        self.refuse_tag(node, "tag:yaml.org,2002:map")
        result: dict[str, Any] = {}
        for key_node, child in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error("a key must be plain text", self.at(key_node))
            key = key_node.value
            if key == "<<" and not key_node.style:
                raise self.error("merge keys (<<) are not allowed; write the keys out", self.at(key_node))
            if key in result:
                raise self.error(f"the key {key!r} stands twice; keep one", self.at(key_node))
            self.key_places[(*path, key)] = self.at(key_node)
            result[key] = self.read(child, (*path, key), depth + 1)
        return result

    def refuse_tag(self, node: yaml.Node, usual: str) -> None:
        if node.tag != usual:
            raise self.error(f"the tag {node.tag!r} is not allowed; remove it", self.at(node))

    def scalar(self, node: yaml.ScalarNode) -> Any:
        text = node.value
        if node.style:  # quoted or block: always text
            if node.tag != "tag:yaml.org,2002:str":
                raise self.error(f"the tag {node.tag!r} is not allowed; remove it", self.at(node))
            return text
        if node.tag not in _PLAIN_TAGS:
            raise self.error(f"the tag {node.tag!r} is not allowed; remove it", self.at(node))
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        return text


_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")
)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def explain(
    failure: ValidationError,
    located: Located,
    error: type[InputError],
    *,
    under: Sequence[str | int] = (),
    known: Iterable[str] = (),
) -> list[InputError]:
    """What pydantic found wrong in the part of a document at `under`, each with its place and remedy.

    `known` are the field names to suggest from for an unknown key.
    """
    found = []
    for item in failure.errors(include_url=False, include_input=True):
        loc = tuple(part for part in item["loc"] if isinstance(part, str | int))
        path = (*under, *loc)
        name = ".".join(str(part) for part in path) or "the document"
        if item["type"] == "extra_forbidden":
            key = str(path[-1])
            place = located.place(path, key=True)
            found.append(error(f"unknown key {key!r}{did_you_mean(key, known)}", place))
        elif item["type"] == "missing":
            found.append(error(f"{name!r} is missing; add it", located.place(path[:-1])))
        else:
            message = item["msg"].removeprefix("Value error, ")
            shown = "" if item["type"] == "value_error" else f", not {_short(item['input'])}"
            found.append(error(f"{name!r}: {message}{shown}", located.place(path)))
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
