"""The part of Rego that policies may use, checked on the syntax tree when a bundle is loaded.

Rego fails open: a misspelt field or a builtin that one engine lacks is *undefined*, and a `deny` rule that is
undefined denies nothing. So whatever could silently be undefined is refused here, with its place: builtins
outside the list below, references to data, rules or input fields that do not exist, and two constructs that
the embedded engine cannot run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from soar.errors import Place, PolicyError
from soar.located import did_you_mean
from soar.policy.rego import Module

BUILTINS: Final = frozenset(
    {
        *("abs", "ceil", "floor", "max", "min", "product", "sum", "to_number", "numbers.range"),
        *("concat", "contains", "endswith", "format_int", "indexof", "replace", "split", "sprintf", "startswith"),
        *("strings.any_prefix_match", "strings.any_suffix_match", "substring"),
        *("trim", "trim_left", "trim_prefix", "trim_right", "trim_space", "trim_suffix"),
        *("array.concat", "array.reverse", "array.slice", "count", "sort", "intersection", "union"),
        *("object.filter", "object.get", "object.keys", "object.remove", "object.union"),
        *("is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string", "type_name"),
        *("glob.match", "net.cidr_contains", "net.cidr_is_valid", "regex.match"),
    }
)
"""Builtins that are pure, and of which both engines give the same answers (`tests/policy/test_parity.py`).

`lower` and `upper` are not among them: the engines differ outside ASCII. `targets[].names` are folded already.
"""

_COMPREHENSIONS = ("ArrayCompr", "SetCompr", "ObjectCompr")
_NOT_PLAIN = (*_COMPREHENSIONS, "RefDot", "RefBrack", "Call")
_WHY = MappingProxyType(
    {
        "http.send": "policy looks nothing up; what a rule needs comes as input",
        "time.now_ns": "policy has no clock; use input.time",
        "opa.runtime": "policy does not read its surroundings; use input.environment",
        "lower": "the engines differ outside ASCII; compare input.action.targets[_].names, which are folded",
        "upper": "the engines differ outside ASCII; compare input.action.targets[_].names, which are folded",
    }
)

Tree = Mapping[str, Any]  # what exists: a mapping goes on, anything else ends what is known
_NO_OTHERS: Mapping[tuple[str, ...], Tree] = MappingProxyType({})


@dataclass(frozen=True)
class Source:
    """One module with its syntax tree."""

    module: Module
    ast: dict[str, Any]

    def place(self, node: Mapping[str, Any]) -> Place:
        """Where a node begins, from its byte offset: regorus's own columns count a tab as four."""
        before = self.module.source.encode()[: node["span"]["start"]].decode(errors="ignore")
        return Place(self.module.file, before.count("\n") + 1, len(before) - before.rfind("\n"))

    @property
    def package(self) -> tuple[str, ...]:
        """`package soar.main` as `("soar", "main")`."""
        return tuple(str(part) for part in chain(self.ast["package"]["refr"])[1])

    def rules(self) -> dict[str, str]:
        """The module's rules by name, each with its kind: `Compr`, `Set`, `Func` or `Default`."""
        return {chain(head["refr"])[1][0]: kind for kind, head in self._heads()}

    def places(self) -> dict[str, Place]:
        """Where each of the module's rules first stands."""
        found: dict[str, Place] = {}
        for _, head in self._heads():
            found.setdefault(chain(head["refr"])[1][0], self.place(head))
        return found

    def _heads(self) -> Iterator[tuple[str, Any]]:
        for rule in self.ast["rules"]:
            if "Default" in rule:
                yield "Default", rule["Default"]
            else:
                yield from rule["Spec"]["head"].items()

    def imports(self) -> dict[str, tuple[str, ...]]:
        """Alias -> what it stands for: `import data.limits` gives `limits` -> `("data", "limits")`."""
        found = {}
        for item in self.ast["imports"]:
            path = tuple(str(part) for part in chain(item["refr"])[1])
            alias = item.get("as")
            name = self.module.source.encode()[alias["start"] : alias["end"]].decode() if alias else path[-1]
            found[name] = path
        return found


def check(
    sources: Iterable[Source],
    *,
    data: Mapping[str, Any],
    input_tree: Tree,
    other_inputs: Mapping[tuple[str, ...], Tree] = _NO_OTHERS,
) -> None:
    """Raise `PolicyError` at the first thing in these modules that is outside the profile.

    `other_inputs` has the packages that are asked something else.
    """
    sources = list(sources)
    tree = _data_tree(sources, data)
    functions = {(*s.package, name) for s in sources for name, kind in s.rules().items() if kind == "Func"}
    for source in sources:
        known = {"input": other_inputs.get(source.package, input_tree), "data": tree}
        _Check(source, known, functions).run()


def _data_tree(sources: Iterable[Source], data: Mapping[str, Any]) -> Tree:
    tree: dict[str, Any] = {}
    nodes = []
    for source in sources:
        if source.package[0] in data:
            place = Place(source.module.file)
            raise PolicyError(f"package {source.package[0]} has the name of a data file; rename it", place)
        node = tree
        for part in source.package:
            node = node.setdefault(part, {})
        nodes.append((node, source))
    for node, source in nodes:
        for rule in source.rules():
            node.setdefault(rule, None)
    return {**data, **tree}


class _Check:
    def __init__(self, source: Source, known: Mapping[str, Tree], functions: set[tuple[str, ...]]) -> None:
        self.source = source
        self.known = known
        self.functions = functions
        self.imports = source.imports()

    def run(self) -> None:
        for item in self.source.ast["imports"]:
            self.reference(next(iter(item["refr"].values())), *chain(item["refr"]))
        for rule in self.source.ast["rules"]:
            self.head(rule)
            self.walk(rule)

    def head(self, rule: dict[str, Any]) -> None:
        """Refuse heads that regorus runs otherwise than OPA.

        A comprehension beside a body fails there. A value that is undefined goes on to `else` in OPA, and ends the
        rule as undefined in regorus; so with an `else`, values are constants or names that the body has bound.
        """
        spec = rule.get("Spec")
        if spec is None or not spec["bodies"]:
            return
        values = [spec["head"], *(body["assign"] for body in spec["bodies"][1:])]
        refused = _COMPREHENSIONS if len(spec["bodies"]) == 1 else _NOT_PLAIN
        for value in values:
            for node in _find(_value(value), refused):
                what = "a comprehension here" if len(spec["bodies"]) == 1 else "an `else` beside what can be undefined"
                remedy = "give the value a name in the body (the embedded engine runs this otherwise than OPA)"
                raise PolicyError(f"{what}; {remedy}", self.source.place(node))

    def walk(self, node: Any) -> None:
        if isinstance(node, list):
            for child in node:
                self.walk(child)
        elif isinstance(node, dict):
            if "Call" in node:
                self.call(node["Call"])
            elif "RefDot" in node or "RefBrack" in node:
                self.reference(node.get("RefDot") or node["RefBrack"], *chain(node))
            else:
                for child in node.values():
                    self.walk(child)

    def call(self, call: dict[str, Any]) -> None:
        name = ".".join(str(part) for part in chain(call["fcn"])[1])
        first = name.partition(".")[0]
        if first in self.imports:
            full = ".".join((*self.imports[first], *name.split(".")[1:]))
            remedy = f"call it by its full path, {full} (the embedded engine finds no function through an import)"
            raise PolicyError(f"{name} is called through an import; {remedy}", self.source.place(call))
        path = tuple(name.split(".")[1:]) if first == "data" else (*self.source.package, name)
        if path not in self.functions and name not in BUILTINS:
            raise PolicyError(self.why_not(name), self.source.place(call))
        self.walk(call["params"])

    def why_not(self, name: str) -> str:
        own = {path[-1] for path in self.functions if path[:-1] == self.source.package}
        full = {".".join(("data", *path)) for path in self.functions}
        remedy = f"; {_WHY[name]}" if name in _WHY else did_you_mean(name, own | full | BUILTINS)
        return f"{name} is no function here and no builtin that policies may use{remedy}"

    def reference(self, node: Mapping[str, Any], root: Any, parts: list[Any]) -> None:
        """Follow a path as far as it is plain text and what exists is known; raise where it leads nowhere."""
        self.walk([part for part in parts if not isinstance(part, str)])
        if not isinstance(root, str):
            self.walk(root)
            return
        path: list[Any] = [*self.imports.get(root, (root,)), *parts[1:]]
        here: Any = self.known
        if path[0] not in here:
            return
        for depth, part in enumerate(path):
            if not isinstance(here, Mapping) or not here or not isinstance(part, str):
                return
            if part not in here:
                shown = ".".join(str(step) for step in path[: depth + 1])
                hint = did_you_mean(part, here)
                if path[0] == "data" and depth > 1 and path[1] != "soar":
                    hint = f"; add it to data/{path[1]}.yaml{hint}"
                message = f"nothing at {shown}, so this would silently be undefined{hint}"
                raise PolicyError(message, self.source.place(node))
            here = here[part]


def chain(node: dict[str, Any]) -> tuple[Any, list[Any]]:
    """A reference as its root and all its parts; a part that is not plain text stays a node."""
    if "Var" in node:
        return node["Var"]["value"], [node["Var"]["value"]]
    if "RefDot" in node:
        root, parts = chain(node["RefDot"]["refr"])
        return root, [*parts, node["RefDot"]["field"][1]]
    if "RefBrack" in node:
        root, parts = chain(node["RefBrack"]["refr"])
        index = node["RefBrack"]["index"]
        return root, [*parts, index["String"]["value"] if "String" in index else index]
    return node, [node]


def _value(part: Any) -> Any:
    """What a head or an `else` gives: its value or key, without its name."""
    if not isinstance(part, dict):
        return None
    head = next(iter(part.values())) if "value" not in part else part
    return [head.get("key"), (head.get("assign") or head).get("value")]


def _find(node: Any, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for child in node:
            yield from _find(child, names)
    elif isinstance(node, dict):
        for name, child in node.items():
            if name in names:
                yield child
            yield from _find(child, names)


def tree_of_schema(schema: Mapping[str, Any]) -> Tree:
    """The field names in a JSON Schema as a tree; free-form objects and lists end it."""
    definitions = schema.get("$defs", {})

    def tree(part: Mapping[str, Any]) -> Any:
        if "$ref" in part:
            return tree(definitions[part["$ref"].rpartition("/")[2]])
        return {name: tree(child) for name, child in part.get("properties", {}).items()} or None

    found = tree(schema)
    return found if isinstance(found, dict) else {}
