"""Mapping files: how the payloads of one product become Alerts, as data.

A mapping is YAML, read strictly; docs/mappings.md is its manual. Everything in it is compiled when it is loaded, so
what is wrong with it is known before the first record comes in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import InitErrorDetails

from soar.errors import InputError, MappingError, Place
from soar.ingest import fields
from soar.ingest.expressions import NOTHING, Expressions, Getters, OneExpression, Words
from soar.ingest.fields import EntitiesFields, Several
from soar.ingest.severity import Reading
from soar.ingest.view import OneDecodePath
from soar.located import Located, explain, load, read_text
from soar.model.alert import Severity
from soar.model.base import Frozen

T = TypeVar("T")

BUILT_IN = Path(__file__).parent / "mappings"
FALLBACK = "generic"
MAX_NARROWED = 256
MAX_REMEMBERED_KEYS = 512  # in a set


def _usable_format(form: str) -> str:
    try:
        datetime.strptime(datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC).strftime(form), form)  # noqa: DTZ007  only tried
    except ValueError as failure:
        raise ValueError(f"{form!r} is no strptime format ({failure})") from failure
    return form


def _many(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


Formats = Annotated[tuple[Annotated[str, AfterValidator(_usable_format)], ...], BeforeValidator(_many)]
DecodePaths = Annotated[tuple[OneDecodePath, ...], BeforeValidator(_many)]
Readings = Annotated[tuple[Reading, ...], BeforeValidator(_many)]


class PerKeys(Generic[T]):
    """What is worked out for a payload's set of keys, and remembered for the next payload that has the same.

    A product's payloads have few different sets. Whoever sends ever new ones makes us forget, not grow; and a set of
    very many keys is not kept at all, or strangers' keys would fill memory.
    """

    def __init__(self, work: Callable[[frozenset[str]], T]) -> None:
        self._work = work
        self.known: dict[frozenset[str], T] = {}

    def __call__(self, keys: frozenset[str]) -> T:
        """What was worked out for these keys, now or before."""
        if len(keys) > MAX_REMEMBERED_KEYS:
            return self._work(keys)
        if keys not in self.known:
            if len(self.known) >= MAX_NARROWED:
                self.known.clear()
            self.known[keys] = self._work(keys)
        return self.known[keys]


class Shape(Frozen):
    """How one form of a product's payload is recognised and unpacked.

    It is recognised when all `keys` stand at the payload's top level and `where` holds. Each level of `split` gives
    the elements of the level above; without it the payload is the one element.
    """

    keys: Annotated[Words, Field(min_length=1)]
    where: OneExpression | None = None
    split: Expressions = NOTHING


class Mapping(Frozen):
    """One product's mapping.

    A field holds one expression or several: the first that gives a value fills it. Where a payload does not say,
    `default_severity` is taken, the time of receipt, and the title as the rule's name.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    product: str = Field(min_length=1, max_length=128)
    product_from: Expressions = NOTHING
    priority: int = Field(default=50, ge=0, le=100)
    shapes: tuple[Shape, ...] = ()
    decode: DecodePaths = ()
    nest_dotted_keys: bool = False
    absent: Words = ()

    uid: Expressions = NOTHING
    rule: fields.RuleFields = fields.RuleFields()
    title: Expressions = NOTHING
    description: Expressions = NOTHING
    severity: Readings = ()
    default_severity: Severity = Severity.MEDIUM
    confidence: Readings = ()
    status: Expressions = NOTHING
    time: Expressions = NOTHING
    time_formats: Formats = ()
    attack: fields.AttackFields = fields.AttackFields()
    entities: fields.EntitiesFields = fields.EntitiesFields()
    observables: fields.ObservablesFields = fields.ObservablesFields()
    labels: dict[str, Expressions] = Field(default_factory=dict)
    labels_from: Expressions = NOTHING

    @cached_property
    def among(self) -> PerKeys[Mapping]:
        """This mapping without what a payload with no other keys than those given cannot fill: it may have hundreds."""
        return PerKeys(self._among)

    def _among(self, keys: frozenset[str]) -> Mapping:
        fields: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        for name, value in fields.items():
            if isinstance(value, Getters | Several | EntitiesFields):
                fields[name] = value.among(keys)
        for name in ("severity", "confidence"):
            fields[name] = tuple(reading.among(keys) for reading in fields[name])
        narrowed = {name: getters.among(keys) for name, getters in self.labels.items()}
        fields["labels"] = {name: getters for name, getters in narrowed.items() if getters}
        return Mapping.model_construct(**fields)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What reading one mapping file gave: a mapping, or everything that is wrong with it."""

    mapping: Mapping | None
    errors: tuple[InputError, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mapping and one of its shapes, in the order in which payloads are tried against them."""

    mapping: Mapping
    shape: Shape
    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class Mappings:
    """All mappings in force, and the files that were left out with their errors."""

    by_name: dict[str, Mapping]
    errors: tuple[InputError, ...] = ()

    @property
    def fallback(self) -> Mapping:
        """What is applied where no shape fits."""
        return self.by_name[FALLBACK]

    def including(self, mapping: Mapping) -> Mappings:
        """These and one more, which replaces one of the same name."""
        return Mappings({**self.by_name, mapping.name: mapping}, self.errors)

    def candidates(self) -> tuple[Candidate, ...]:
        """Every shape: higher `priority` first, then more `keys`, then by the mapping's name."""
        found = [
            Candidate(mapping, shape, frozenset(shape.keys))
            for mapping in self.by_name.values()
            for shape in mapping.shapes
        ]
        return tuple(sorted(found, key=lambda one: (-one.mapping.priority, -len(one.keys), one.mapping.name)))


def parse_mapping(text: str, file: str) -> Parsed:
    """A mapping from its text, or all that is wrong with it, each with its place and remedy."""
    try:
        located = load(text, file, MappingError)
    except InputError as failure:
        return Parsed(None, (failure,))
    if not isinstance(located.value, dict):
        return Parsed(None, (MappingError("is no mapping; start with name: and product:", Place(file)),))
    try:
        return Parsed(Mapping.model_validate(located.value))
    except ValidationError as failure:
        return Parsed(None, tuple(_explained(failure, located)))


def read_mapping(path: Path) -> Parsed:
    """A mapping from its file, or all that is wrong with it."""
    try:
        text = read_text(path, MappingError)
    except InputError as failure:
        return Parsed(None, (failure,))
    return parse_mapping(text, str(path))


def load_mappings(dirs: Iterable[Path] = ()) -> Mappings:
    """The built-in mappings and those in `dirs` (`*.yaml`); one of the same name replaces a built-in one.

    A broken file is left out with its errors and the others load, so that a mistake in one product's mapping does
    not make the alerts of all others wait.
    """
    by_name: dict[str, Mapping] = {}
    errors: list[InputError] = []
    for path in _files((BUILT_IN,)):
        _take(path, by_name, errors)
    own: dict[str, Mapping] = {}
    for path in _files(dirs):
        _take(path, own, errors)
    return Mappings({**by_name, **own}, tuple(errors))


def _files(dirs: Iterable[Path]) -> Iterator[Path]:
    for folder in dirs:
        yield from sorted(path for path in folder.glob("*.yaml") if path.is_file())


def _take(path: Path, into: dict[str, Mapping], errors: list[InputError]) -> None:
    parsed = read_mapping(path)
    errors.extend(parsed.errors)
    if parsed.mapping is None:
        return
    name = parsed.mapping.name
    if name in into:
        errors.append(MappingError(f"a mapping named {name!r} is already loaded; rename this one", Place(str(path))))
        return
    into[name] = parsed.mapping


def _explained(failure: ValidationError, located: Located) -> list[InputError]:
    known = set(Mapping.model_fields) | set(Shape.model_fields) | {"from", "words", "scale", "bands"}
    for part in vars(fields).values():
        if isinstance(part, type) and issubclass(part, BaseModel):
            known.update(part.model_fields)
    found = explain(_as_written(failure, located.value), located, MappingError, known=sorted(known))
    return sorted(found, key=lambda error: error.place or Place(located.file))


def _as_written(failure: ValidationError, document: Any) -> ValidationError:
    """The same errors at the paths of the file, where one value may stand for a list of one."""
    errors = [
        InitErrorDetails(
            type=item["type"], loc=_path(item["loc"], document), input=item["input"], ctx=item.get("ctx", {})
        )
        for item in failure.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(failure.title, errors)


def _path(loc: tuple[int | str, ...], value: Any) -> tuple[int | str, ...]:
    path: list[int | str] = []
    for step in loc:
        if isinstance(step, int) and not isinstance(value, list):
            continue
        path.append(step)
        inside = isinstance(value, dict) or (isinstance(value, list) and isinstance(step, int) and step < len(value))
        value = (value.get(step) if isinstance(value, dict) else value[step]) if inside else None
    return tuple(path)
