"""The lists of steps within a step, with where YAML writes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from soar.located import Path_
from soar.model.playbook import CallStep, ForeachStep, IfStep, ParallelStep, Playbook, Step, SwitchStep


@dataclass(frozen=True, slots=True)
class Block:
    """One list of steps: how it is called in the picture, and its path under its step."""

    label: str
    steps: tuple[Step, ...]
    path: Path_


def branches(step: Step) -> list[Block]:
    """What a step runs of itself; its error steps are not among them."""
    if isinstance(step, IfStep):
        blocks = [Block("then", step.then, ("then",)), Block("else", step.else_, ("else",))]
    elif isinstance(step, SwitchStep):
        blocks = [Block(value, steps, ("cases", value)) for value, steps in step.cases.items()]
        blocks.append(Block("default", step.default, ("default",)))
    elif isinstance(step, ParallelStep):
        blocks = [Block("parallel", step.parallel, ("parallel",))]
    elif isinstance(step, ForeachStep):
        blocks = [Block("do", step.do, ("do",))]
    else:
        blocks = []
    return [block for block in blocks if block.steps]


def error_steps(step: Step) -> Block | None:
    """What a step runs where it fails, if it says so."""
    return Block("on_error", step.on_error, ("on_error",)) if isinstance(step.on_error, tuple) else None


def walk(playbook: Playbook) -> Iterator[tuple[Step, Path_]]:
    """Every step of a playbook with its path in the file, parents first."""
    yield from _walk(playbook.steps, ("steps",))
    yield from _walk(playbook.on_error, ("on_error",))


def _walk(steps: tuple[Step, ...], under: Path_) -> Iterator[tuple[Step, Path_]]:
    for index, step in enumerate(steps):
        path = (*under, index)
        yield step, path
        handlers = error_steps(step)
        for block in [*branches(step), *([handlers] if handlers else [])]:
            yield from _walk(block.steps, (*path, *block.path))


def calls(playbook: Playbook) -> list[tuple[CallStep, Path_]]:
    """The steps that call other playbooks."""
    return [(step, path) for step, path in walk(playbook) if isinstance(step, CallStep)]
