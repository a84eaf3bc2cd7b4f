"""Which fields an expression reads, as far as its text tells."""

from __future__ import annotations

from soar.expr.syntax import Tree, children

FieldPath = tuple[str, ...]

_SAME = frozenset({"identity", "current", "index", "slice", "expref"})
_CHAINS = frozenset({"subexpression", "index_expression", "pipe", "projection", "flatten"})


def references(tree: Tree) -> list[FieldPath]:
    """Every field path read, from the root, indexes left out: `a.b[0].c` is `("a", "b", "c")`."""
    found: dict[FieldPath, None] = {}
    _read(tree, (), found)
    return list(found)


def plain_path(tree: Tree) -> FieldPath | None:
    """The path, where an expression is nothing but one: `a.b`."""
    if tree["type"] == "field":
        return (tree["value"],)
    if tree["type"] != "subexpression":
        return None
    parts = [plain_path(child) for child in tree["children"]]
    return tuple(name for part in parts for name in part or ()) if all(parts) else None


def _read(node: Tree, at: FieldPath | None, found: dict[FieldPath, None]) -> FieldPath | None:
    """Note what `node` reads when it stands at `at`; the path of its value where it has one."""
    path = _path(node, at, found)
    if path:
        found[path] = None
    return path


def _path(node: Tree, at: FieldPath | None, found: dict[FieldPath, None]) -> FieldPath | None:
    """The path of a node's value; None where it is computed. Notes what its parts read on the way."""
    kind = node["type"]
    if kind == "field":
        return None if at is None else (*at, node["value"])
    if kind in _SAME:
        return at
    if kind in _CHAINS:
        return _chain(node["children"], at, found)
    if kind in {"filter_projection", "value_projection"}:
        return _projection(node, at, found)
    _read_arguments(children(node), at, found)
    return None


def _chain(nodes: list[Tree], at: FieldPath | None, found: dict[FieldPath, None]) -> FieldPath | None:
    for node in nodes:
        before, at = at, _path(node, at, found)
        if at is None and before:
            found[before] = None
    return at


def _projection(node: Tree, at: FieldPath | None, found: dict[FieldPath, None]) -> FieldPath | None:
    below = node["children"]
    base = _path(below[0], at, found)
    if node["type"] == "filter_projection":
        _read(below[2], base, found)
    elif base is not None:
        base = (*base, "*")
    return _chain([below[1]], base, found)


def _read_arguments(nodes: list[Tree], at: FieldPath | None, found: dict[FieldPath, None]) -> None:
    """Parts of a computed value; an `&expression` stands at the elements of the list beside it."""
    paths = [_read(node, at, found) for node in nodes if node["type"] != "expref"]
    beside = next((path for path in reversed(paths) if path), None)
    for node in nodes:
        if node["type"] == "expref":
            _read(node["children"][0], beside, found)
