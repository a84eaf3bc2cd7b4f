"""What changed between two bundles: files, values of the data, controls, and verdicts on generated questions."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from soar.errors import Place
from soar.policy.bundle import Bundle, located_data
from soar.policy.corpus import corpus
from soar.policy.gate import Document
from soar.policy.grounds import CONTROLS
from soar.policy.replay import Bench, Ruling

_ABSENT: Final = object()

At = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileChange:
    """A Rego file that was added, removed or changed; lines are those that only one side has."""

    path: str
    word: str
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class ValueChange:
    """A value of the data, with its path and where it stands now, or stood. `word` is added, removed or changed."""

    path: At
    word: str
    old: Any
    new: Any
    place: Place | None


@dataclass(frozen=True, slots=True)
class ControlChange:
    """A control that came, went, or became mandatory or not."""

    control: str
    word: str


@dataclass(slots=True)
class VerdictChange:
    """A kind of flip among the generated questions: how many, by which controls, and the first of them."""

    kind: str
    controls: tuple[str, ...]
    count: int
    question: Document
    old: Ruling
    new: Ruling


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All of it; `asked` questions were decided by both."""

    old: str
    new: str
    files: tuple[FileChange, ...]
    values: tuple[ValueChange, ...]
    controls: tuple[ControlChange, ...]
    asked: int
    verdicts: tuple[VerdictChange, ...]

    @property
    def differs(self) -> bool:
        """Whether anything does."""
        return bool(self.files or self.values or self.controls or self.verdicts)


def compare(old: tuple[Path, Bundle], new: tuple[Path, Bundle], *, honours: Iterable[str]) -> Comparison:
    """Compare two bundles, each with the folder it was loaded from."""
    honoured = tuple(honours)
    questions = [question.document() for question in corpus(old[1], new[1])]
    rulings = []
    for _, bundle in (old, new):
        with Bench(bundle, honours=honoured) as bench:
            rulings.append(bench.rule(questions))
    return Comparison(
        old=old[1].revision,
        new=new[1].revision,
        files=tuple(_files(old[1], new[1])),
        values=tuple(_data(old, new)),
        controls=tuple(_controls(old[1], new[1])),
        asked=len(questions),
        verdicts=tuple(_verdicts(questions, *rulings)),
    )


def _files(old: Bundle, new: Bundle) -> Iterator[FileChange]:
    before, after = ({each.path: each.source for each in (*b.modules, *b.tests)} for b in (old, new))
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path, ""), after.get(path, "")
        if was == now and path in before and path in after:
            continue
        word = "added" if path not in before else "removed" if path not in after else "changed"
        lines = list(difflib.ndiff(was.splitlines(), now.splitlines()))
        added, removed = (sum(line.startswith(sign) for line in lines) for sign in ("+ ", "- "))
        yield FileChange(path, word, added, removed)


def _data(old: tuple[Path, Bundle], new: tuple[Path, Bundle]) -> Iterator[ValueChange]:
    before, after = located_data(old[0]), located_data(new[0])
    for path, was, now in _values(old[1].data, new[1].data, ()):
        word = "added" if was is _ABSENT else "removed" if now is _ABSENT else "changed"
        located = (before if now is _ABSENT else after).get(path[0])
        yield ValueChange(
            path=path,
            word=word,
            old=None if was is _ABSENT else was,
            new=None if now is _ABSENT else now,
            place=located.place(path[1:]) if located else None,
        )


def _values(old: Any, new: Any, path: At) -> Iterator[tuple[At, Any, Any]]:
    """Values that differ; a list as what only one side has, where its order alone is not all that differs."""
    if type(old) is type(new) and old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from _values(old.get(name, _ABSENT), new.get(name, _ABSENT), (*path, name))
    elif isinstance(old, list) and isinstance(new, list) and (ends := _ends(old, new)) != ([], []):
        gone, come = ends
        yield from ((path, each, _ABSENT) for each in gone)
        yield from ((path, _ABSENT, each) for each in come)
    else:
        yield path, old, new


def _ends(old: list[Any], new: list[Any]) -> tuple[list[Any], list[Any]]:
    gone, come = list(old), []
    for each in new:
        if each in gone:
            gone.remove(each)
        else:
            come.append(each)
    return gone, come


def _controls(old: Bundle, new: Bundle) -> Iterator[ControlChange]:
    before, after = _named(old), _named(new)
    yield from (ControlChange(name, "removed") for name in sorted(before - after))
    yield from (ControlChange(name, "added") for name in sorted(after - before))
    lost, won = old.mandatory_controls - new.mandatory_controls, new.mandatory_controls - old.mandatory_controls
    yield from (ControlChange(name, "not mandatory any more") for name in sorted(lost))
    yield from (ControlChange(name, "mandatory now") for name in sorted(won))


def _named(bundle: Bundle) -> set[str]:
    parts = (rule.split(".") for rule in bundle.rules)
    return {rule[3] for rule in parts if tuple(rule[1:3]) == CONTROLS}


def _verdicts(questions: list[Document], old: list[Ruling], new: list[Ruling]) -> list[VerdictChange]:
    found: dict[tuple[str, tuple[str, ...]], VerdictChange] = {}
    for question, was, now in zip(questions, old, new, strict=True):
        if was.same(now):
            continue
        kind, controls = f"{was.effect}->{now.effect}", was.apart(now)
        change = found.setdefault((kind, controls), VerdictChange(kind, controls, 0, question, was, now))
        change.count += 1
    return sorted(found.values(), key=lambda each: -each.count)
