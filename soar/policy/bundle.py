"""A bundle: Rego modules and the data they read, checked whole before it may decide anything.

    policies/
        main.rego  lib.rego  controls/*.rego      what decides; `data.soar.main.decision` is asked
        lint.rego                                 what is wrong with the data; asked once, here
        *_test.rego                               tests; no part of the revision
        data/<name>.yaml                          what people edit; becomes `data.<name>`

A bundle that is wrong anywhere is refused whole: the caller keeps the revision that is running.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError

from soar.errors import Place, PolicyError
from soar.located import Located, did_you_mean, load, read_text
from soar.model.base import canonical
from soar.model.decision import DecisionDocument
from soar.policy.dialect import Source, Tree, check, tree_of_schema
from soar.policy.input import PolicyInput
from soar.policy.person import PERSON_ENTRY_POINT, PERSON_PACKAGE, PersonInput, answer_of
from soar.policy.port import ENTRY_POINT
from soar.policy.reads import WHOLE, Field, fields_read
from soar.policy.rego import EngineFault, Module, evaluate, explain, new_engine
from soar.policy.rehearsal import person_rehearsal, rehearsal

LINT: Final = "data.soar.lint.faults"
BATCH: Final = "data.soar.batch.decisions"
"""What an OPA server is asked: the decisions on an array of questions, by their numbers in it."""
_BATCH_REGO = """# METADATA
# title: Many questions in one evaluation
# description: Written by soar beside the bundle's own files; the input is an array of questions.
# schemas:
#   - input: {type: array}
package soar.batch

decisions[number] := decision if {
	some number, question in input
	decision := data.soar.main.decision with input as question
}
"""
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Bundle:
    """What an engine needs to decide; `revision` is a digest over every file that can change a decision."""

    revision: str
    modules: tuple[Module, ...] = field(repr=False)
    tests: tuple[Module, ...] = field(repr=False)
    data: dict[str, Any] = field(repr=False)
    mandatory_controls: frozenset[str]
    rules_people: bool = False  # whether it says what people may do
    reads: frozenset[Field] = WHOLE  # fields of the input on which a decision can depend
    rules: Mapping[str, Place] = field(default_factory=dict, repr=False)  # `data.soar.main.decision` -> where it begins

    @property
    def data_json(self) -> bytes:
        """The data as canonical JSON, the same for every engine."""
        return canonical(self.data)

    def export(self, folder: Path) -> None:
        """Write it as an OPA bundle folder (`opa run -b`, `opa test -b`, `opa build -b`), with its tests and `BATCH`.

        The data goes out as JSON, already read: OPA's own YAML would read `no` or `1:30` otherwise than we do.
        See https://www.openpolicyagent.org/docs/management-bundles for the format.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for module in (*self.modules, *self.tests):
            path = folder / module.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(module.source, encoding="utf-8")
        (folder / "soar_batch.rego").write_text(_BATCH_REGO, encoding="utf-8")
        (folder / "data.json").write_bytes(self.data_json)
        (folder / ".manifest").write_bytes(orjson.dumps({"revision": self.revision, "rego_version": 1}))


def load_bundle(folder: Path) -> Bundle:
    """Read and check a bundle; raises `PolicyError` with file, line, column and remedy for what is wrong."""
    if not folder.is_dir():
        raise PolicyError("is no folder; `soar init` makes one with the starter policies", Place(str(folder)))
    modules = tuple(_modules(folder))
    documents = dict(_documents(folder / "data"))
    bundle = Bundle(
        revision=_revision(folder, modules, documents),
        modules=tuple(m for m in modules if not m.is_test),
        tests=tuple(m for m in modules if m.is_test),
        data={name: located.value for name, located in documents.items()},
        mandatory_controls=_mandatory(documents.get("controls")),
    )
    sources = _check(bundle, folder, documents)
    actions = [source for source in sources if source.package != PERSON_PACKAGE]
    rules = {
        ".".join(("data", *source.package, name)): place
        for source in sources
        for name, place in source.places().items()
    }
    return dataclasses.replace(
        bundle, reads=fields_read(actions), rules_people=len(actions) < len(sources), rules=rules
    )


def located_data(folder: Path) -> dict[str, Located]:
    """The data files of a bundle by name, with the place of every value; raises `PolicyError` as `load_bundle` does."""
    return dict(_documents(folder / "data"))


def fleet_of(bundle: Bundle) -> dict[str, float]:
    """How many targets of each type there are, as `data/assets.yaml` says; what is no number above 0 is not known."""
    fleet = bundle.data.get("assets", {}).get("fleet")
    sizes = fleet if isinstance(fleet, dict) else {}
    return {kind: size for kind, size in sizes.items() if isinstance(size, int | float) and size > 0}


def _modules(folder: Path) -> Iterator[Module]:
    for path in sorted(folder.rglob("*.rego")):
        source = read_text(path, PolicyError)
        if source != _BATCH_REGO:  # in a folder that was exported
            yield Module(path.relative_to(folder).as_posix(), str(path), source)


def _documents(folder: Path) -> Iterator[tuple[str, Located]]:
    seen: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else ():
        place = Place(str(path))
        if path.suffix not in {".yaml", ".json"} or not _NAME.fullmatch(path.stem) or path.stem == "soar":
            raise PolicyError("is no data file; name it <word>.yaml or <word>.json, and not soar", place)
        if path.stem in seen:
            raise PolicyError(f"{seen[path.stem].name} gives data.{path.stem} already; keep one", place)
        seen[path.stem] = path
        located = load(read_text(path, PolicyError), str(path), PolicyError)
        if not isinstance(located.value, dict):
            raise PolicyError("must hold names and values, as in `hour: 5`", place)
        try:
            canonical(located.value)
        except ValueError as failure:
            raise PolicyError(f"holds a number that JSON does not keep exactly: {failure}", place) from failure
        yield path.stem, located


def _revision(folder: Path, modules: tuple[Module, ...], documents: dict[str, Located]) -> str:
    files = [Path(m.file) for m in modules if not m.is_test] + [Path(located.file) for located in documents.values()]
    digests = sorted((p.relative_to(folder).as_posix(), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files)
    return hashlib.sha256(canonical([list(pair) for pair in digests])).hexdigest()


def _mandatory(controls: Located | None) -> frozenset[str]:
    if controls is None:
        return frozenset()
    names = controls.value.get("mandatory", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PolicyError("'mandatory' must be a list of control names", controls.place(["mandatory"]))
    return frozenset(names)


def _check(bundle: Bundle, folder: Path, documents: dict[str, Located]) -> list[Source]:
    """The modules with their syntax trees; raises `PolicyError` for what is wrong."""
    engine = new_engine((*bundle.modules, *bundle.tests), bundle.data_json)
    trees = {item["source"]["file"]: item["ast"] for item in orjson.loads(engine.get_ast_as_json())}
    sources = [Source(module, trees[module.path]) for module in bundle.modules]
    _check_entry_point(sources, folder)
    actions, persons = _inputs()
    check(sources, data=bundle.data, input_tree=actions, other_inputs={PERSON_PACKAGE: persons})
    engine = new_engine(bundle.modules, bundle.data_json)  # without tests, as it will run
    defined = {".".join(("data", *source.package, rule)) for source in sources for rule in source.rules()}
    if LINT in defined:
        _check_data(_ask(engine, LINT, bundle, folder, rehearsal()[0]), documents)
    for question in rehearsal():
        answer = _ask(engine, ENTRY_POINT, bundle, folder, question)
        _check_decision(answer, bundle, sources, documents)
    _check_people(engine, sources, documents)
    return sources


def _check_people(engine: Any, sources: list[Source], documents: dict[str, Located]) -> None:
    """Whoever says who may do what must be heard."""
    rules = [source for source in sources if source.package == PERSON_PACKAGE]
    if not rules and "people" in documents:
        message = f"says who may do what, but there is no {PERSON_ENTRY_POINT} that reads it"
        raise PolicyError(message, Place(documents["people"].file))
    if rules:
        try:
            answer_of(engine, person_rehearsal())
        except PolicyError as failure:
            raise PolicyError(failure.message, Place(rules[0].module.file)) from failure


@cache
def _inputs() -> tuple[Tree, Tree]:
    """The names in what policy is asked, about actions and about people: the same for every bundle."""
    return tree_of_schema(input_schema()), tree_of_schema(person_schema())


def input_schema() -> dict[str, Any]:
    """The JSON Schema of what policy is asked; `policies/schemas/input.json` is this."""
    return PolicyInput.model_json_schema(mode="serialization")


def person_schema() -> dict[str, Any]:
    """The JSON Schema of what policy is asked about people; `policies/schemas/person.json` is this."""
    return PersonInput.model_json_schema(mode="serialization")


def _check_entry_point(sources: list[Source], folder: Path) -> None:
    package, _, rule = ENTRY_POINT.removeprefix("data.").rpartition(".")
    batch = BATCH.removeprefix("data.").rpartition(".")[0]
    for source in sources:
        if ".".join(source.package) == batch:
            raise PolicyError(f"package {batch} is soar's own; give yours another name", Place(source.module.file))
    mains = [source for source in sources if ".".join(source.package) == package]
    if not any(rule in source.rules() for source in mains):
        known = {name for source in mains for name in source.rules()}
        place = Place(mains[0].module.file) if mains else Place(str(folder))
        remedy = f"write `{rule} := {{...}}` in package {package}"
        raise PolicyError(f"there is no {ENTRY_POINT}{did_you_mean(rule, known)}; {remedy}", place)


def _ask(engine: Any, rule: str, bundle: Bundle, folder: Path, question: PolicyInput) -> Any:
    """A rule's value for one input, None where it is undefined."""
    try:
        return evaluate(engine, rule, orjson.dumps(question.document()))[1]
    except EngineFault as fault:
        error = explain(fault.text, bundle.modules)
        raise PolicyError(error.message, error.place or Place(str(folder))) from fault


def _check_data(faults: Any, documents: dict[str, Located]) -> None:
    for fault in faults or ():
        name, *path = fault["path"]
        shown = ".".join(str(part) for part in fault["path"][1:])
        located = documents.get(name)
        place = located.place(path) if located else None
        raise PolicyError(f"{shown!r} {fault['msg']}", place)


def _check_decision(value: Any, bundle: Bundle, sources: list[Source], documents: dict[str, Located]) -> None:
    """A bundle that cannot decide the plainest case would deny everything later; say so now."""
    main = next(source for source in sources if ".".join(("data", *source.package)) == ENTRY_POINT.rpartition(".")[0])
    place = Place(main.module.file)
    if value is None:
        raise PolicyError(f"{ENTRY_POINT} is undefined for a plain question; every input must have a decision", place)
    try:
        decision = DecisionDocument.model_validate(value)
    except ValidationError as failure:
        item = failure.errors()[0]
        where = ".".join(str(part) for part in item["loc"])
        raise PolicyError(f"{ENTRY_POINT} is no decision document: {where}: {item['msg']}", place) from failure
    for name in sorted(bundle.mandatory_controls - set(decision.controls_evaluated)):
        hint = did_you_mean(name, decision.controls_evaluated)
        controls = documents["controls"].place(["mandatory"])
        raise PolicyError(f"control {name!r} is mandatory, but no rule evaluates it{hint}", controls)
