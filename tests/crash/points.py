"""The write points of soar, read from its code.

A write point is a place where soar waits for something to become durable: the `await` of a call that changes the
store, or of a call of a function that has such a place in it, and so on outwards. So `end` in `soar.engine.steps`
has a point where it waits for `context.save`, and each of the many places that wait for `end` is a point of its own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import soar

SOURCE = Path(soar.__file__).parent


def _writes() -> frozenset[str]:
    """The calls of a store that change it: those that SQLite's store carries out on its one writing thread."""
    tree = ast.parse((SOURCE / "store" / "sqlite" / "store.py").read_text())
    methods = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]
    writing = {method.name for method in methods for node in ast.walk(method) if _is_write(node)}
    return frozenset(name for name in writing - {"open", "close"} if not name.startswith("_"))


def _is_write(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in {"_write", "_writer"}


WRITES = _writes()
"""The calls that change a store."""
_WHOLE = "Running"
"""The service as a whole: nothing within it calls it. What is named like its methods is something else."""
HANDED_OVER = "Recorder.record"
"""Waits for a commit that another task of the process makes."""
_FOLLOWED = frozenset({"engine", "service", "journal"})
"""Rooms whose functions are followed outwards. Elsewhere a direct change of a store is a point, and that is all:
the commands of `cli` and the doors call what these rooms have."""

Place = tuple[str, int, int]
"""File, line and column where an awaited call begins."""


@dataclass(frozen=True, slots=True)
class _Function:
    """A function, and of what class each of its parameters is, as far as it says."""

    module: str
    name: str  # with its class
    owner: str  # the class, or nothing
    types: dict[str, str]


@dataclass(slots=True)
class _Class:
    """A class: its methods that can be awaited, and of what class its attributes are."""

    methods: dict[str, tuple[str, str]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Call:
    function: _Function
    place: Place
    func: ast.expr


class _Reader(ast.NodeVisitor):
    """One module: its classes, the functions that can be awaited, and the calls that it waits for."""

    def __init__(self, path: Path, source: Path) -> None:
        self.file = str(path)
        self.room = path.relative_to(source).parts[0]
        self.module = ".".join(("soar", *path.relative_to(source).with_suffix("").parts))
        self.names: dict[str, str] = {}
        self.classes: dict[str, _Class] = {}
        self.functions: set[str] = set()
        self.calls: list[_Call] = []
        self._around: list[str] = []
        self._owner = ""
        self._function = _Function(self.module, "", "", {})
        self.visit(ast.parse(path.read_text(), self.file))

    def visit_Import(self, node: ast.Import) -> None:
        self.names |= {alias.asname or alias.name: alias.name for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        types = {each.target.id: _word(each.annotation) for each in fields if isinstance(each.target, ast.Name)}
        self.classes[node.name] = _Class(types=types)
        owner, self._owner = self._owner, node.name
        self._enter(node)
        self._owner = owner

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outer = self._function
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        types = {each.arg: _word(each.annotation) for each in arguments if each.annotation is not None}
        name = ".".join([*self._around, node.name])
        self._function = _Function(self.module, name, self._owner, {**outer.types, **types, "self": self._owner})
        self._enter(node)
        self._function = outer

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        name = ".".join([*self._around, node.name])
        self.functions.add(name)
        if name == f"{self._owner}.{node.name}":
            self.classes[self._owner].methods[node.name] = (self.module, name)
        self.visit_FunctionDef(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        """`self.x = x` and `self.x = X(...)` say of what class an attribute is."""
        target, value = node.targets[0], node.value
        value = value.body if isinstance(value, ast.IfExp) else value
        if self._owner and isinstance(target, ast.Attribute):
            known = self._function.types.get(value.id, "") if isinstance(value, ast.Name) else ""
            made = _word(value.func) if isinstance(value, ast.Call) else ""
            self.classes[self._owner].types.setdefault(target.attr, known or (made if made[:1].isupper() else ""))
        if isinstance(target, ast.Name) and isinstance(value, ast.Call) and _word(value.func)[:1].isupper():
            self._function.types[target.id] = _word(value.func)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if self._owner and isinstance(node.target, ast.Attribute):
            self.classes[self._owner].types.setdefault(node.target.attr, _word(node.annotation))
        self.generic_visit(node)

    def visit_Await(self, node: ast.Await) -> None:
        if isinstance(node.value, ast.Call):
            self.calls.append(_Call(self._function, (self.file, node.lineno, node.col_offset), node.value.func))
        self.generic_visit(node)

    def _enter(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._around.append(node.name)
        self.generic_visit(node)
        del self._around[-1]


class _Code:
    """All of soar above the Store port."""

    def __init__(self, source: Path) -> None:
        paths = [path for path in sorted(source.rglob("*.py")) if path.relative_to(source).parts[0] != "store"]
        self.readers = [_Reader(path, source) for path in paths]
        self.classes = {name: each for reader in self.readers for name, each in reader.classes.items()}
        self.methods: dict[str, set[tuple[str, str]]] = {}
        for reader in self.followed():
            for owner, each in reader.classes.items():
                for name, method in each.methods.items() if owner != _WHOLE else ():
                    self.methods.setdefault(name, set()).add(method)

    def followed(self) -> Iterator[_Reader]:
        return (reader for reader in self.readers if reader.room in _FOLLOWED)

    def callees(self, reader: _Reader, call: _Call) -> set[tuple[str, str]]:
        """The functions that a call may reach: by name among all methods where nothing says of what class it is."""
        func, function = call.func, call.function
        if isinstance(func, ast.Name):
            near = (reader.module, f"{function.name}.{func.id}")
            module, _, name = reader.names.get(func.id, f"{reader.module}.{func.id}").rpartition(".")
            return {near, (module, name)}
        if not isinstance(func, ast.Attribute):
            return set()
        if isinstance(func.value, ast.Name) and func.value.id not in function.types and func.value.id in reader.names:
            return {(reader.names[func.value.id], func.attr)}
        owner = self._type(func.value, function)
        if not owner:
            return self.methods.get(func.attr, set())
        known = self.classes.get(owner)
        return {known.methods[func.attr]} if known is not None and func.attr in known.methods else set()

    def on_store(self, call: _Call) -> bool:
        """Whether it changes a store."""
        func = call.func
        if not isinstance(func, ast.Attribute) or func.attr not in WRITES:
            return False
        return self._type(func.value, call.function) == "Store" or _word(func.value).endswith("store")

    def _type(self, of: ast.expr, function: _Function) -> str | None:
        if isinstance(of, ast.Name):
            return function.types.get(of.id)
        if isinstance(of, ast.Attribute):
            owner = self.classes.get(self._type(of.value, function) or "")
            return owner.types.get(of.attr) if owner is not None else None
        return _word(of.func) if isinstance(of, ast.Call) else None


def write_points(source: Path = SOURCE) -> dict[Place, str]:
    """The name of each write point by its place, numbered where a function has several alike."""
    code = _Code(source)
    waits = [(each, code.callees(reader, each)) for reader in code.followed() for each in reader.calls]
    direct = [each for reader in code.readers for each in reader.calls if code.on_store(each)]
    handed = {method for methods in code.methods.values() for method in methods if method[1] == HANDED_OVER}
    writing = handed | {(each.function.module, each.function.name) for each in direct}
    while more := {(c.function.module, c.function.name) for c, callees in waits if callees & writing} - writing:
        writing |= more
    named: dict[Place, str] = {}
    for call in sorted([*direct, *(each for each, callees in waits if callees & writing)], key=lambda c: c.place):
        words = f"{call.function.module}:{call.function.name} > {ast.unparse(call.func)}"
        again = sum(1 for name in named.values() if name.partition(" #")[0] == words)
        named.setdefault(call.place, f"{words} #{again + 1}" if again else words)
    return named


def _word(node: ast.expr | None) -> str:
    """The class that an annotation or a call names: `Store` of `port.Store | None`."""
    match node:
        case ast.BinOp():
            return _word(node.left)
        case ast.Attribute():
            return node.attr
        case ast.Name():
            return node.id
        case _:
            return ""
