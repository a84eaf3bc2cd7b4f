"""What an expression may name at a place in a playbook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from soar.located import did_you_mean
from soar.model.alert import Alert

STEP_FIELDS = ("ok", "state", "result", "error", "error_code")
"""What `steps.<id>` has."""

ROOTS = ("alert", "steps", "run", "vars", "item")
"""What a step's expressions can name. What is read back for `verify` is seen alone, as `result`."""

FieldPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """The names that are defined where an expression stands."""

    all_steps: frozenset[str]  # of the whole playbook, for better messages
    results: dict[str, frozenset[str]] = field(default_factory=dict)  # step id -> fields of its result, where declared
    steps: frozenset[str] = frozenset()
    items: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    roots: tuple[str, ...] = ROOTS

    def after(self, *step_ids: str | None) -> Scope:
        """The scope behind these steps."""
        return replace(self, steps=self.steps | {one for one in step_ids if one})

    def joined(self, others: Iterable[Scope]) -> Scope:
        """The scope behind several branches: what any of them defined may be there."""
        merged = list(others)
        return replace(
            self,
            steps=self.steps.union(*(one.steps for one in merged)),
            names=self.names.union(*(one.names for one in merged)),
        )

    def troubles(self, references: Iterable[FieldPath]) -> Iterator[str]:
        """What is wrong with the paths that an expression reads."""
        for path in references:
            trouble = self._root(path) or _BY_ROOT.get(path[0], _fine)(self, path)
            if trouble:
                yield trouble

    def _root(self, path: FieldPath) -> str | None:
        if path[0] in self.roots:
            return None
        if path[0] in Alert.model_fields:
            return f"{path[0]!r} is a field of the alert; write alert.{'.'.join(path)}"
        hint = did_you_mean(path[0], self.roots) or f"; the names here are {', '.join(self.roots)}"
        return f"no {path[0]!r} here{hint}"


def _alert(_: Scope, path: FieldPath) -> str | None:
    if len(path) < 2 or path[1] in Alert.model_fields or path[1] == "*":
        return None
    hint = did_you_mean(path[1], Alert.model_fields) or f"; it has {', '.join(Alert.model_fields)}"
    return f"an alert has no field {path[1]!r}{hint}"


def _step(scope: Scope, path: FieldPath) -> str | None:
    if len(path) < 2 or path[1] == "*":
        return None
    name = path[1]
    if name not in scope.all_steps:
        hint = did_you_mean(name, scope.all_steps) or "; give a step this id"
        return f"no step {name!r}{hint}"
    if name not in scope.steps:
        return (
            f"step {name!r} has not run at this point; move it before, out of a sibling branch, or out of its foreach"
        )
    if len(path) > 2 and path[2] not in (*STEP_FIELDS, "*"):
        return f"steps.{name} has {', '.join(STEP_FIELDS)}; write steps.{name}.result.{'.'.join(path[2:])}"
    declared = scope.results.get(name)
    if declared and len(path) > 3 and path[2] == "result" and path[3] not in (*declared, "*"):
        hint = did_you_mean(path[3], declared) or f"; it has {', '.join(sorted(declared))}"
        return f"the result of step {name!r} has no field {path[3]!r}{hint}"
    return None


def _vars(scope: Scope, path: FieldPath) -> str | None:
    if len(path) < 2 or path[1] in scope.names or path[1] == "*":
        return None
    hint = did_you_mean(path[1], scope.names) or "; define it under vars: or inputs:, or with a set: step before"
    return f"no variable {path[1]!r}{hint}"


def _item(scope: Scope, path: FieldPath) -> str | None:
    if not scope.items:
        return "'item' exists only within the do: of a foreach"
    if len(path) < 2 or path[1] in scope.items or path[1] == "*":
        return None
    here = ", ".join(f"item.{name}" for name in sorted(scope.items))
    return f"no item.{path[1]} here; the element is {here}"


def _fine(_: Scope, __: FieldPath) -> None:
    return None


_BY_ROOT = MappingProxyType({"alert": _alert, "steps": _step, "vars": _vars, "item": _item})
