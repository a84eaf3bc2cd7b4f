"""The one place that talks to regorus, the embedded Rego engine (github.com/microsoft/regorus).

Its errors become ours here: `RuntimeError` with the place in its text, and Rust panics, which arrive as a
`BaseException` that no `except Exception` would catch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import orjson
import regorus

from soar.errors import Place, PolicyError

_TAB = 4  # columns that regorus counts for a tab; editors and OPA count one
_WHERE = re.compile(r"--> (?P<file>.+?):(?P<line>\d+):(?P<column>\d+)\n")
_WHAT = re.compile(r"^error: (?P<what>.+?)$", re.MULTILINE)
_REMEDIES = (
    ("`if` keyword is required", "this is Rego v0; write `name if { ... }` (`opa fmt --rego-v1` converts)"),
    ("`contains` keyword is required", "this is Rego v0; write `name contains value if { ... }`"),
    ("expecting `package`", "the first statement must be `package ...`"),
    ("is unsafe", "give it a value in this rule, or check its spelling"),
    ("could not find function", "check its spelling"),
    ("recursion detected", "a rule may not depend on itself"),
)


@dataclass(frozen=True, slots=True)
class Module:
    """One Rego file: its path within the bundle, where it was read, and its text."""

    path: str
    file: str
    source: str

    @property
    def is_test(self) -> bool:
        """Tests are checked and run, but never decide."""
        return PurePosixPath(self.path).name.endswith("_test.rego")


class EngineFault(Exception):  # noqa: N818 - a fault of the policy on one input, not yet an error to show
    """regorus could not answer. `str()` is one sentence; `text` is all it said, the place included."""

    def __init__(self, text: str) -> None:
        super().__init__(headline(text))
        self.text = text


def new_engine(modules: Iterable[Module], data_json: bytes, *, coverage: bool = False) -> regorus.Engine:
    """An engine with these modules and this data; raises `PolicyError` at the place of what does not parse.

    It belongs to the thread that made it: any use from another one is a panic.
    """
    engine = regorus.Engine()
    engine.set_gather_prints(True)
    engine.set_enable_coverage(coverage)
    for module in modules:
        add_module(engine, module)
    engine.add_data_json(data_json.decode())
    return engine


def add_module(engine: regorus.Engine, module: Module) -> None:
    """Add one module; raises `PolicyError` where it does not parse."""
    try:
        engine.add_policy(module.path, module.source)
    except RuntimeError as failure:
        raise explain(str(failure), [module]) from failure


def evaluate(engine: regorus.Engine, rule: str, document_json: bytes) -> tuple[bool, Any]:
    """Whether `rule` is defined for an input, and its value; raises `EngineFault`."""
    try:
        engine.set_input_json(document_json.decode())
        text = engine.eval_rule_as_json(rule)
    except RuntimeError as failure:
        raise EngineFault(str(failure)) from failure
    except BaseException as failure:
        if type(failure).__name__ != "PanicException":
            raise
        raise EngineFault(f"the engine panicked: {failure}") from failure
    if text == '"<undefined>"':
        return False, None
    return True, orjson.loads(text)


def explain(text: str, modules: Iterable[Module]) -> PolicyError:
    """Regorus's words as a `PolicyError` with place and remedy."""
    by_path = {module.path: module for module in modules}
    match = _WHERE.search(text)
    place = None
    if match and match["file"] in by_path:
        module = by_path[match["file"]]
        place = _place(module, int(match["line"]), int(match["column"]))
    what = headline(text)
    remedy = next((remedy for words, remedy in _REMEDIES if words in what), None)
    return PolicyError(f"{what}; {remedy}" if remedy else what, place)


def headline(text: str) -> str:
    """The one sentence in regorus's output that says what is wrong; the rest is a picture and a backtrace."""
    match = _WHAT.search(text)
    return match["what"] if match else text.strip().partition("\n")[0]


def _place(module: Module, line: int, column: int) -> Place:
    lines = module.source.split("\n")
    text = lines[line - 1] if line <= len(lines) else ""
    tabs = len(text) - len(text.lstrip("\t"))
    return Place(module.file, line, max(1, column - min(tabs, column // _TAB) * (_TAB - 1)))
