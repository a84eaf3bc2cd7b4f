"""The house keeps its shape: small functions, small modules, no shared mutable state, no words that mean nothing."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for folder in ("soar", "connectors") for path in (ROOT / folder).rglob("*.py"))

MODULE_LINES = 500
FUNCTION_LINES = 60
FUNCTION_LINES_P95 = 45
EMPTY_WORDS = frozenset({"workflow", "workflows", "manager", "managers", "helper", "helpers", "util", "utils"})
MUTABLE_DISPLAYS = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)
MUTABLE_TYPES = frozenset({"dict", "list", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict"})

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Finding = tuple[int, str]  # line, what is wrong there


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS))


def long_functions(tree: ast.Module) -> Iterator[Finding]:
    for node in functions(tree):
        if length(node) > FUNCTION_LINES:
            yield node.lineno, f"{node.name} has {length(node)} lines, {FUNCTION_LINES} are allowed"


def long_modules(tree: ast.Module) -> Iterator[Finding]:
    last = max((node.end_lineno or 0 for node in tree.body), default=0)
    if last > MODULE_LINES:
        yield last, f"the module has {last} lines, {MODULE_LINES} are allowed"


def words(name: str) -> set[str]:
    """The words of a name in snake_case or CamelCase."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def empty_words(tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            for word in sorted(words(node.name) & EMPTY_WORDS):
                yield node.lineno, f"the name {node.name} says {word!r}, which tells a reader nothing"


def is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        function = value.func
        return (function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")) in MUTABLE_TYPES
    return isinstance(value, MUTABLE_DISPLAYS)


def assignments(tree: ast.Module) -> Iterator[tuple[ast.Name, ast.expr | None]]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield target, node.value


def mutable_state(tree: ast.Module) -> Iterator[Finding]:
    for target, value in assignments(tree):
        if is_mutable(value) and not target.id.isupper() and target.id != "__all__":
            yield target.lineno, f"{target.id} is mutable and lives as long as the module; freeze it or pass it in"
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield node.lineno, f"global {', '.join(node.names)}: pass it in"


def missing_docstring(tree: ast.Module) -> Iterator[Finding]:
    if not ast.get_docstring(tree):
        yield 1, "the module does not say what it is for"


RULES = [long_functions, long_modules, empty_words, mutable_state, missing_docstring]


@pytest.mark.parametrize("rule", RULES)
def test_every_module_keeps_the_rule(rule: Callable[[ast.Module], Iterator[Finding]]) -> None:
    assert FILES
    offenders = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in FILES
        for line, what in rule(ast.parse(path.read_text(), filename=str(path)))
    ]
    assert not offenders, "\n".join(["", *offenders])


def test_functions_are_short_as_a_rule() -> None:
    found = [(length(node), path, node) for path in FILES for node in functions(ast.parse(path.read_text()))]
    found.sort(key=lambda item: item[0])
    p95, _, _ = found[int(len(found) * 0.95)]
    longest = [f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {lines}" for lines, path, node in found[-20:]]
    assert p95 <= FUNCTION_LINES_P95, "\n".join([f"p95 is {p95} lines; the longest:", *reversed(longest)])


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    assert not [str(path.relative_to(ROOT)) for path in FILES if words(path.stem) & EMPTY_WORDS]


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (long_functions, '"""Fine."""\n\ndef long():\n' + "    pass\n" * 60),
        (long_modules, '"""Fine."""\n' + "pass\n" * 500),
        (empty_words, '"""Fine."""\n\nclass RunManager:\n    pass\n'),
        (empty_words, '"""Fine."""\n\nasync def start_workflow():\n    pass\n'),
        (mutable_state, '"""Fine."""\n\nseen: dict[str, int] = {}\n'),
        (mutable_state, '"""Fine."""\n\nseen = collections.defaultdict(list)\n'),
        (mutable_state, '"""Fine."""\n\ndef count():\n    global total\n'),
        (missing_docstring, "x = 1\n"),
    ],
)
def test_each_rule_finds_what_breaks_it(rule: Callable[[ast.Module], Iterator[Finding]], source: str) -> None:
    broken = {found.__name__ for found in RULES if list(found(ast.parse(source)))}
    assert broken == {rule.__name__}
