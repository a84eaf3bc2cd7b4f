"""The step forms as YAML spells them: which key makes which form, and which keys go with it."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import Any, get_args

from pydantic import BaseModel

from soar.located import did_you_mean
from soar.model.playbook import (
    ActionStep,
    AskStep,
    BaseStep,
    CallStep,
    ForeachStep,
    IfStep,
    ParallelStep,
    SetStep,
    StopStep,
    SwitchStep,
    WaitStep,
)

FORMS: MappingProxyType[str, type[BaseStep]] = MappingProxyType(
    {
        "use": ActionStep,
        "then": IfStep,
        "switch": SwitchStep,
        "parallel": ParallelStep,
        "foreach": ForeachStep,
        "wait": WaitStep,
        "ask": AskStep,
        "call": CallStep,
        "set": SetStep,
        "stop": StopStep,
    }
)
"""The key that makes a step what it is -> its type. Exactly one of these stands in a step."""

BLOCKS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {"then": ("then", "else"), "switch": ("default",), "parallel": ("parallel",), "foreach": ("do",)}
)
"""The keys of a form that hold lists of steps (`cases` of a switch holds several, by value)."""

_INTERNAL = frozenset({"kind", "line", "for_", "until", "for_alert"})


@lru_cache(maxsize=64)
def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys a model takes, as YAML spells them."""
    return tuple(field.alias or name for name, field in model.model_fields.items() if name not in _INTERNAL)


@lru_cache(maxsize=16)
def step_keys(form: str) -> frozenset[str]:
    """The keys a step of this form takes."""
    return frozenset(keys_of(FORMS[form])) | {form}


def no_form(keys: list[str]) -> str:
    """Why a step with these keys is no step."""
    words = ", ".join(FORMS)
    strange = [key for key in keys if key not in {"id", "if", "on_error", "timeout", "with"}]
    for key in strange:
        if suggestion := did_you_mean(key, FORMS):
            return f"unknown key {key!r}{suggestion}"
    if "if" in keys:
        return "an if needs then: with the steps to take, or what to do beside it (use:, wait:, ...)"
    return f"says not what to do; add one of {words}"


def not_here(key: str, form: str) -> str:
    """Why this key does not go with this form."""
    others = [other for other in FORMS if key in step_keys(other)]
    if others and others != list(FORMS):
        return f"{key!r} goes with {' or '.join(others)}, not with {form}; remove it"
    return f"unknown key {key!r}{did_you_mean(key, sorted(step_keys(form)))}"


def model_at(model: type[BaseModel], path: tuple[Any, ...]) -> type[BaseModel] | None:
    """The model that stands at a path within another, for suggestions."""
    found: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int):
            continue
        fields = {field.alias or name: field for name, field in found.model_fields.items()} if found else {}
        found = _model_in(fields[part].annotation) if part in fields else None
    return found


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [_model_in(argument) for argument in get_args(annotation)]
    return next((model for model in inner if model is not None), None)
