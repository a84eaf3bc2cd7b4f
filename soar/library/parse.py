"""YAML text -> Playbook, with every error of a file at once, each with its line, column and remedy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from soar.errors import PlaybookError
from soar.library.forms import BLOCKS, FORMS, keys_of, model_at, no_form, not_here, step_keys
from soar.library.predicates import LISTS
from soar.located import Located, Path_, did_you_mean, load
from soar.model.alert import Severity
from soar.model.playbook import STEP_ID, BaseStep, Dedupe, Match, Playbook, Step, StopStep, Trigger

M = TypeVar("M", bound=BaseModel)

_TOP = tuple("playbook" if key == "id" else key for key in keys_of(Playbook) if key not in {"digest", "file"})
_BROKEN = StopStep()  # stands in for a step that has errors of its own, so that its parents are checked too


@dataclass(frozen=True)
class Parsed:
    """What came of one file: a playbook, or every reason why there is none."""

    file: str
    playbook: Playbook | None
    errors: list[PlaybookError]
    located: Located | None


def parse(text: str, file: str) -> Parsed:
    """Read one playbook; raises nothing, `errors` says all that is wrong."""
    try:
        located = load(text, file, PlaybookError)
    except PlaybookError as failure:
        return Parsed(file, None, [failure], None)
    parser = _Parser(located)
    playbook = parser.playbook(hashlib.sha256(text.encode()).hexdigest())
    errors = sorted(parser.errors, key=lambda error: error.place or located.place(()))
    return Parsed(file, None if errors else playbook, errors, located)


class _Parser:
    """Walks one document top down; what is wrong is noted and stepped over."""

    def __init__(self, located: Located) -> None:
        self.located = located
        self.errors: list[PlaybookError] = []

    def fail(self, message: str, path: Path_, *, key: bool = False) -> None:
        self.errors.append(PlaybookError(message, self.located.place(path, key=key)))

    def playbook(self, digest: str) -> Playbook | None:
        document = self.located.value
        if not isinstance(document, dict):
            self.fail("is no playbook; start it with playbook: NAME", ())
            return None
        self.unknown_keys(document, _TOP, ())
        fields = {key: value for key, value in document.items() if key in _TOP and key != "playbook"}
        fields |= {"digest": digest, "file": self.located.file}
        if "playbook" in document:
            fields["id"] = document["playbook"]
        for key in ("steps", "on_error"):
            if key in document:
                fields[key] = self.steps(document[key], (key,))
        if document.get("on") is not None:
            fields["on"] = self.trigger(document["on"], ("on",))
        if document.get("dedupe") is not None:
            fields["dedupe"] = self.dedupe(document["dedupe"], ("dedupe",))
        return self.build(Playbook, fields, (), moved={"id": ("playbook",)})

    def mapping(self, value: Any, path: Path_, example: str) -> bool:
        """Whether it is one; notes the error where not."""
        if not isinstance(value, dict):
            self.fail(f"{_name(path)} must be a mapping; write {example}", path)
        return isinstance(value, dict)

    def unknown_keys(self, value: Mapping[str, Any], known: tuple[str, ...], path: Path_) -> bool:
        """Whether there are any; notes them."""
        unknown = [key for key in value if key not in known]
        for key in unknown:
            hint = did_you_mean(key, known) or f"; the keys here are {', '.join(known)}"
            self.fail(f"unknown key {key!r}{hint}", (*path, key), key=True)
        return bool(unknown)

    def steps(self, value: Any, path: Path_) -> tuple[Step, ...]:
        if not isinstance(value, list):
            self.fail(f"{_name(path)} must be a list of steps; start each with '- '", path)
            return (_BROKEN,)
        return tuple(self.step(child, (*path, index)) for index, child in enumerate(value))

    def step(self, value: Any, path: Path_) -> Step:
        """One step; what makes it a form is which one of the forms' keys it has."""
        if not isinstance(value, dict):
            self.fail("a step is a mapping; write such as {use: notify.send, with: {...}}", path)
            return _BROKEN
        forms = [form for form in FORMS if form in value]
        if not forms:
            self.fail(no_form(list(value)), path)
            return _BROKEN
        if len(forms) > 1:
            self.fail(
                f"a step does one thing; {' and '.join(forms)} stand here together; make them steps of their own", path
            )
            return _BROKEN
        return self.form(forms[0], value, path)

    def form(self, form: str, value: dict[str, Any], path: Path_) -> Step:
        allowed = step_keys(form)
        for key in value:
            if key not in allowed:
                self.fail(not_here(key, form), (*path, key), key=True)
        fields = {key: child for key, child in value.items() if key in allowed}
        fields["line"] = self.located.place(path).line
        for block in BLOCKS.get(form, ()):
            if block in fields:
                fields[block] = self.steps(fields[block], (*path, block))
        if form == "switch":
            self.cases(fields, path)
        if form == "then" and "if" not in fields:
            self.fail("then: without if:; add if: with the condition", path)
        moved = self.wait(fields, path) if form == "wait" else {}
        if "on_error" in fields:
            fields["on_error"] = self.on_error(fields["on_error"], (*path, "on_error"))
        model: type[BaseStep] = FORMS[form]
        built = self.build(model, fields, path, moved=moved)
        return _BROKEN if built is None else built  # type: ignore[return-value]  # every form's type is a Step

    def on_error(self, value: Any, path: Path_) -> Any:
        if isinstance(value, list):
            return self.steps(value, path)
        if value not in {"fail", "continue"}:
            hint = did_you_mean(str(value), ["fail", "continue"])
            self.fail(f"'on_error' is fail, continue or a list of steps, not {value!r}{hint}", path)
            return "fail"
        return value

    def cases(self, fields: dict[str, Any], path: Path_) -> None:
        under = (*path, "cases")
        if "cases" not in fields:
            self.fail("switch: without cases:; add cases: {VALUE: [steps]}", path)
            fields["cases"] = {}
        elif self.mapping(fields["cases"], under, "cases: {VALUE: [steps]}"):
            fields["cases"] = {key: self.steps(child, (*under, key)) for key, child in fields["cases"].items()}
        else:
            fields["cases"] = {}

    def wait(self, fields: dict[str, Any], path: Path_) -> dict[str, Path_]:
        """`wait: 10m`, `wait: {until: ...}` or `wait: {for_alert: {...}}`."""
        value, under = fields.pop("wait"), (*path, "wait")
        if not isinstance(value, dict):
            fields["for_"] = value
            if value is None:
                self.fail("'wait' is empty; write such as 10m, {until: EXPRESSION} or {for_alert: {match: ...}}", under)
            return {"for_": ("wait",)}
        known = ("for", "until", "for_alert")
        strange = self.unknown_keys(value, known, under)
        given = [key for key in known if value.get(key) is not None]
        if strange and not given:
            return {}
        if len(given) != 1:
            self.fail("'wait' takes exactly one of for, until, for_alert", under)
            return {}
        fields[{"for": "for_"}.get(given[0], given[0])] = value[given[0]]
        if "for_alert" in given:
            fields["for_alert"] = self.trigger(value["for_alert"], (*under, "for_alert"))
        return {"for_": ("wait", "for"), "until": ("wait", "until"), "for_alert": ("wait", "for_alert")}

    def trigger(self, value: Any, path: Path_) -> Trigger | None:
        if not self.mapping(value, path, "{match: {FIELD: VALUE}}"):
            return None
        self.unknown_keys(value, keys_of(Trigger), path)
        fields = {key: child for key, child in value.items() if key in keys_of(Trigger)}
        matches = fields.pop("match", None)
        if matches is not None and self.mapping(matches, (*path, "match"), "{FIELD: VALUE}"):
            built = {field: self.match(wanted, (*path, "match", field)) for field, wanted in matches.items()}
            fields["match"] = {field: match for field, match in built.items() if match is not None}
        if not matches and not fields.get("where"):
            self.fail(f"{_name(path)} would match every alert; add match: or where:", path)
        return self.build(Trigger, fields, path)

    def match(self, value: Any, path: Path_) -> Match | None:
        """A bare value or list is `any_of`."""
        bare = not isinstance(value, dict)
        if bare:
            value = {"any_of": value}
        elif self.unknown_keys(value, keys_of(Match), path):
            return None
        value = dict(value)
        if not value or any(child is None or child == [] for child in value.values()):
            self.fail(f"{path[-1]!r} has nothing to compare with; give a value, a list or an operator", path)
            return None
        for operator in LISTS:
            if operator in value and not isinstance(value[operator], list):
                value[operator] = [value[operator]]
        for operator in ("at_least", "at_most"):
            if isinstance(value.get(operator), str) and not self.severity_word(value[operator], (*path, operator)):
                return None
        return self.build(Match, value, path, moved={"any_of": ()} if bare else {})

    def severity_word(self, word: str, path: Path_) -> bool:
        if word in list(Severity):
            return True
        hint = did_you_mean(word, map(str, Severity)) or f"; the words are {', '.join(Severity)}"
        self.fail(f"{path[-1]!r} compares with a number or a severity, not {word!r}{hint}", path)
        return False

    def dedupe(self, value: Any, path: Path_) -> Dedupe | None:
        if not self.mapping(value, path, "{key: [rule.id], within: 30m}"):
            return None
        known = ("key", "within", "mode")
        self.unknown_keys(value, known, path)
        fields = {key: child for key, child in value.items() if key in known}
        if isinstance(fields.get("key"), str):
            fields["key"] = [fields["key"]]
        mode = fields.get("mode")
        if isinstance(mode, dict):
            threshold = mode.get("threshold")
            if set(mode) != {"threshold"} or not isinstance(threshold, dict) or set(threshold) != {"count"}:
                self.fail("'mode' is first, collect or {threshold: {count: N}}", (*path, "mode"))
                return None
            fields |= {"mode": "threshold", "count": threshold["count"]}
        elif mode == "threshold":
            self.fail("'mode: threshold' needs a count; write mode: {threshold: {count: 5}}", (*path, "mode"))
            return None
        return self.build(Dedupe, fields, path, moved={"count": ("mode", "threshold", "count")})

    def build(
        self, model: type[M], fields: dict[str, Any], path: Path_, *, moved: Mapping[str, Path_] | None = None
    ) -> M | None:
        """The model, or None with every error noted. `moved` says where a field stands if not under its own name."""
        try:
            return model.model_validate(fields)
        except ValidationError as failure:
            seen = set()
            for item in _telling(failure):
                loc = item["loc"]
                stands = (moved or {}).get(str(loc[0]), (loc[0],)) if loc else ()
                at = self.existing((*path, *stands, *loc[1:]))
                message, on_key = _explain(item, model, at)
                if (message, at) not in seen:
                    seen.add((message, at))
                    self.fail(message, at, key=on_key)
            return None

    def existing(self, path: Path_) -> Path_:
        """The path as far as the document has it, one name beyond included (a key that is missing)."""
        known = len(path)
        while known and path[:known] not in self.located.places:
            known -= 1
        return path[: known + 1] if known < len(path) and _is_key(path[known]) else path[:known]


_UNIONS = frozenset({"str", "int", "bool", "float", "function-before"})


def _is_key(part: str | int) -> bool:
    return isinstance(part, str) and part not in _UNIONS


def _telling(failure: ValidationError) -> list[Any]:
    """What pydantic found, without what only follows from it.

    A list is not empty because its one element is wrong, and a key is not missing where it is misspelt.
    """
    items = failure.errors(include_url=False)
    strange = [str(item["loc"][-1]) for item in items if item["type"] == "extra_forbidden"]
    return [
        item
        for item in items
        if not (item["type"] == "too_short" and item["input"])
        and not (item["type"] == "missing" and did_you_mean(str(item["loc"][-1]), strange))
    ]


def _explain(item: Any, model: type[BaseModel], path: Path_) -> tuple[str, bool]:
    """What pydantic says, in our words; whether it is about a key."""
    name, kind, given = _name(path), item["type"], _short(item["input"])
    if kind == "extra_forbidden":
        inner = model_at(model, item["loc"][:-1])
        hint = did_you_mean(str(path[-1]), keys_of(inner)) if inner else ""
        return f"unknown key {str(path[-1])!r}{hint}", True
    if kind in _SENTENCES:
        return _SENTENCES[kind].format(name=name, given=given, **item.get("ctx", {})), False
    if kind == "string_pattern_mismatch":
        joint = "_" if item["ctx"]["pattern"] == STEP_ID else "-"
        return f"{name} is made of a-z, 0-9 and {joint}, starts with a letter, at most 63; {given} is not", False
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return (f"{name}: {message}" if kind == "value_error" else f"{name} must be {message}, not {given}"), False


_SENTENCES = MappingProxyType(
    {
        "missing": "{name} is missing; add it",
        "too_short": "{name} is empty; add at least one",
        "too_long": "{name} has {actual_length}; it takes at most {max_length}",
        "string_type": "{name} must be text, not {given}; quote it",
        "tuple_type": "{name} must be a list, not {given}",
        "dict_type": "{name} must be a mapping, not {given}",
        "model_type": "{name} must be a mapping, not {given}",
    }
)


def _name(path: Path_) -> str:
    names = [part for part in path if isinstance(part, str)]
    return repr(names[-1]) if names else "the document"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
