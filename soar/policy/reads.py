"""Which fields of the input a bundle can read at all: questions that are equal in these have the same decision.

Rules are pure (`soar.policy.dialect` refuses every builtin that is not) and data is part of the revision, so a
decision follows from the fields that some rule names. What cannot be told from the text counts as read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from soar.policy.dialect import Source, chain
from soar.policy.port import Answer

Field = tuple[str, ...]

WHOLE: frozenset[Field] = frozenset({()})
"""Reads the input as a whole."""
_KEPT = 4096
_ABSENT: tuple[()] = ()

_Tree = dict[str, "_Tree"]


def fields_read(sources: Iterable[Source]) -> frozenset[Field]:
    """The fields of the input that rules name, without those inside another; `WHOLE` where one passes it on."""
    found = {field for source in sources for field in _fields(source.ast["rules"], source.imports())}
    return frozenset(field for field in found if not any(field[:end] in found for end in range(len(field))))


def _fields(node: Any, imports: Mapping[str, tuple[str, ...]]) -> Iterator[Field]:
    if isinstance(node, list):
        for child in node:
            yield from _fields(child, imports)
    elif isinstance(node, dict):
        if not node.keys() & {"Var", "RefDot", "RefBrack"}:
            yield from _fields(list(node.values()), imports)
            return
        root, parts = chain(node)
        if isinstance(root, str):
            path = [*imports.get(root, (root,)), *parts[1:]]
            if path[0] == "input":
                yield tuple(_plain(path[1:]))
        yield from _fields([part for part in parts if not isinstance(part, str)], imports)


def _plain(parts: Sequence[Any]) -> Iterator[str]:
    for part in parts:
        if not isinstance(part, str):
            return
        yield part


class Memory:
    """Answers of one revision by the fields that it reads. Not for an engine that could go away or change."""

    def __init__(self, reads: frozenset[Field]) -> None:
        self._reads = _tree(reads)
        self._answers: dict[bytes, Answer] = {}

    def key(self, document: Mapping[str, Any]) -> bytes:
        """What the decision on a document depends on."""
        return orjson.dumps(_seen(document, self._reads), option=orjson.OPT_SORT_KEYS)

    def recall(self, key: bytes) -> Answer | None:
        """The answer that was given to such a question."""
        return self._answers.get(key)

    def keep(self, key: bytes, answer: Answer) -> None:
        """Remember an answer. Faults are not remembered: they are rare, and each is worth its line in the log."""
        if answer.fault is not None:
            return
        if len(self._answers) >= _KEPT:
            self._answers.clear()  # most hold a second that has passed
        self._answers[key] = answer


def _tree(fields: Iterable[Field]) -> _Tree:
    """The fields below each name; a name with nothing below it is read whole."""
    tree: _Tree = {}
    for field in sorted(fields):
        below = tree
        for name in field:
            below = below.setdefault(name, {})
    return tree


def _seen(here: Any, tree: _Tree) -> Sequence[Any]:
    """What is read of a value, in lists, so that nothing there differs from null."""
    if type(here) is not dict:
        return _ABSENT
    seen: list[Any] = []
    for name, below in tree.items():
        if name not in here:
            seen.append(_ABSENT)
        else:
            seen.append(_seen(here[name], below) if below else [here[name]])
    return seen
