"""Folders of playbooks -> a Library. One broken file never keeps the others out."""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from soar.errors import NotFoundError, Place, PlaybookError
from soar.library.blocks import calls
from soar.library.lint import lint
from soar.library.parse import parse
from soar.located import did_you_mean, read_text
from soar.model.catalogue import Catalogue
from soar.model.playbook import CallStep, Playbook

Files = frozenset[tuple[str, int, int]]
"""Of each file its path, time of change and size: what tells whether any has changed."""


@dataclass(frozen=True)
class Library:
    """The playbooks in force, and why others are not. `digest` names this exact set."""

    playbooks: Mapping[str, Playbook]
    errors: tuple[PlaybookError, ...]
    digest: str
    files: Files = field(repr=False)  # as they stood before they were read
    _texts: Mapping[str, str] = field(repr=False)

    def text_of(self, digest: str) -> str:
        """The source text of a playbook in force; raises NotFoundError for any other digest."""
        try:
            return self._texts[digest]
        except KeyError:
            raise NotFoundError(f"no playbook in force has digest {digest!r}") from None


@dataclass(frozen=True, slots=True)
class _File:
    """What is kept of a file that has no error of its own; its many places are not."""

    playbook: Playbook
    text: str
    place: Place
    calls: tuple[tuple[CallStep, Place], ...]


class _Anything(Collection[str]):
    """Every playbook, as far as one file tells; `_call_trouble` looks when all are known."""

    def __contains__(self, _: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def load_folders(paths: Iterable[Path], catalogue: Catalogue) -> Library:
    """Every `*.yaml` and `*.yml` below the folders, `*.test.yaml` left out, linted against the catalogue.

    A file that is wrong is left out and its errors are kept; so is a playbook that calls one that was left out, and
    every file of an id that stands in several.
    """
    errors: list[PlaybookError] = []
    broken: set[str] = set()
    by_id: dict[str, list[_File]] = defaultdict(list)
    folders = list(paths)
    files = files_below(folders)
    errors += [
        PlaybookError("is no folder; create it, or correct soar.yaml", Place(str(folder)))
        for folder in folders
        if not folder.is_dir()
    ]
    for path in _paths(folders):
        try:
            text = read_text(path, PlaybookError)
        except PlaybookError as failure:
            errors.append(failure)
            continue
        parsed = parse(text, str(path))
        found = lint(parsed, catalogue, _Anything())
        errors.extend(found)
        if parsed.playbook is not None and parsed.located is not None:
            located = parsed.located
            called = tuple((step, located.place((*at, "call"))) for step, at in calls(parsed.playbook))
            file = _File(parsed.playbook, text, located.place(("playbook",)), called)
            by_id[parsed.playbook.id].append(file)
            if found:
                broken.add(parsed.playbook.id)
    errors.extend(error for same in by_id.values() if len(same) > 1 for error in _twice(same))
    good = {name: same[0] for name, same in by_id.items() if len(same) == 1 and name not in broken}
    errors.extend(_drop_bad_calls(good, by_id))
    return _library(good, errors, files)


def files_below(folders: Iterable[Path]) -> Files:
    """The files that `load_folders` would read, as they stand now."""
    found = set()
    for path in _paths(folders):
        with contextlib.suppress(OSError):  # it went while we looked
            status = path.stat()
            found.add((str(path), status.st_mtime_ns, status.st_size))
    return frozenset(found)


def keeping(before: Library, after: Library) -> Library:
    """`after`, with the old version of each playbook whose file is still there and no longer gives any.

    So that a mistake in a file takes nothing out of force; that its file is deleted, or names another playbook, does.
    """
    given = {playbook.file for playbook in after.playbooks.values()}
    kept = {
        name: playbook
        for name, playbook in before.playbooks.items()
        if name not in after.playbooks and playbook.file not in given and Path(playbook.file).is_file()
    }
    if not kept:
        return after
    texts = {each.digest: before.text_of(each.digest) for each in kept.values()}
    texts |= {each.digest: after.text_of(each.digest) for each in after.playbooks.values()}
    return _named({**after.playbooks, **kept}, errors=after.errors, texts=texts, files=after.files)


def _paths(folders: Iterable[Path]) -> list[Path]:
    found: dict[Path, None] = {}  # folders may overlap
    for folder in folders:
        inside = (path for pattern in ("*.yaml", "*.yml") for path in folder.rglob(pattern) if path.is_file())
        found.update(dict.fromkeys(sorted(inside)))
    return [path for path in found if not path.name.endswith((".test.yaml", ".test.yml"))]


def _library(good: Mapping[str, _File], errors: list[PlaybookError], files: Files) -> Library:
    texts = {file.playbook.digest: file.text for file in good.values()}
    playbooks = {name: file.playbook for name, file in good.items()}
    in_order = sorted(errors, key=lambda error: error.place or Place(""))
    return _named(playbooks, errors=in_order, texts=texts, files=files)


def _named(
    found: Mapping[str, Playbook], *, errors: Iterable[PlaybookError], texts: Mapping[str, str], files: Files
) -> Library:
    playbooks = dict(sorted(found.items()))
    digests = "\n".join(f"{name} {playbook.digest}" for name, playbook in playbooks.items())
    return Library(
        playbooks=MappingProxyType(playbooks),
        errors=tuple(errors),
        digest=hashlib.sha256(digests.encode()).hexdigest(),
        files=files,
        _texts=MappingProxyType(dict(texts)),
    )


def _twice(same: list[_File]) -> list[PlaybookError]:
    """Which of two would run is a question nobody should have to answer: neither does."""
    found = []
    for one in same:
        others = " and ".join(other.place.file for other in same if other is not one)
        message = f"playbook {one.playbook.id!r} stands also in {others}; rename one, neither is loaded"
        found.append(PlaybookError(message, one.place))
    return found


def _drop_bad_calls(good: dict[str, _File], known: Collection[str]) -> list[PlaybookError]:
    """Take out, until nothing changes, what calls a playbook that is out, calls one wrongly, or is part of a circle."""
    errors: list[PlaybookError] = []
    while True:
        found = {name: _call_errors(name, good, known) for name in good}
        bad = [name for name, troubles in found.items() if troubles]
        if not bad:
            return errors
        for name in bad:
            errors.extend(found[name])
            del good[name]


def _call_errors(name: str, good: Mapping[str, _File], known: Collection[str]) -> list[PlaybookError]:
    troubles = ((_call_trouble(name, step, good, known), place) for step, place in good[name].calls)
    return [PlaybookError(trouble, place) for trouble, place in troubles if trouble]


def _call_trouble(name: str, step: CallStep, good: Mapping[str, _File], known: Collection[str]) -> str | None:
    if step.call not in known:
        return f"no playbook {step.call!r}{did_you_mean(step.call, known)}"
    if step.call not in good:
        return f"calls playbook {step.call!r}, which was left out; see its errors"
    circle = _way(step.call, name, good)
    if circle is not None:
        return f"calls itself in a circle: {' -> '.join((name, *circle))}; break it"
    inputs = good[step.call].playbook.inputs
    takes = inputs.get("properties", {})
    for key in step.with_:
        if key not in takes:
            hint = did_you_mean(key, takes) or f"; it takes {', '.join(takes) or 'none'}"
            return f"playbook {step.call!r} has no input {key!r}{hint}"
    missing = [key for key in inputs.get("required", ()) if key not in step.with_]
    return f"playbook {step.call!r} needs {', '.join(missing)}; add it under with:" if missing else None


def _way(start: str, goal: str, good: Mapping[str, _File]) -> tuple[str, ...] | None:
    """The shortest chain of calls from one playbook to another, both named, or None."""
    ways: dict[str, tuple[str, ...]] = {start: (start,)}
    for name in (queue := [start]):
        if name == goal:
            return ways[name]
        for step, _ in good[name].calls if name in good else ():
            if step.call not in ways:
                ways[step.call] = (*ways[name], step.call)
                queue.append(step.call)
    return None
