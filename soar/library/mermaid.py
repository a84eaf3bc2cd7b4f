"""A playbook as a Mermaid flowchart."""

from __future__ import annotations

from collections.abc import Iterable

from soar.library.blocks import branches, error_steps
from soar.library.describe import conditions, headline
from soar.model.playbook import ForeachStep, IfStep, Playbook, Step, StopStep, SwitchStep

Ends = list[tuple[str, str]]  # (node, label of the arrow that leaves it)


def mermaid(playbook: Playbook) -> str:
    """The text of a `flowchart TD`; what the playbook says is quoted, so that no text of it is Mermaid's syntax."""
    chart = _Chart()
    start = chart.node("([{}])", " / ".join([playbook.id, *conditions(playbook.on)]))
    ends = chart.steps(playbook.steps, [(start, "")])
    chart.join(ends, chart.node("([{}])", "done"))
    if playbook.on_error:
        chart.steps(playbook.on_error, [(chart.node("([{}])", "if a step fails"), "")])
    return "\n".join(["flowchart TD", *chart.lines, ""])


class _Chart:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.nodes = 0

    def node(self, shape: str, text: str) -> str:
        name = f"n{self.nodes}"
        self.nodes += 1
        self.lines.append(f"  {name}{shape.format(_quoted(text))}")
        return name

    def join(self, ends: Iterable[tuple[str, str]], node: str) -> None:
        for end, label in ends:
            arrow = f"-->|{_quoted(label)}|" if label else "-->"
            self.lines.append(f"  {end} {arrow} {node}")

    def steps(self, steps: tuple[Step, ...], ends: Ends) -> Ends:
        for step in steps:
            ends = self.step(step, ends)
        return ends

    def step(self, step: Step, ends: Ends) -> Ends:
        blocks = branches(step)
        name = self.node("{{{}}}" if blocks else "[{}]", f"{step.id}: {headline(step)}" if step.id else headline(step))
        self.join(ends, name)
        handlers = error_steps(step)
        failed = self.steps(handlers.steps, [(name, "if it fails")]) if handlers else []
        if isinstance(step, StopStep):
            return failed
        if not blocks:
            return [(name, ""), *failed]
        if isinstance(step, ForeachStep):
            self.join(self.steps(step.do, [(name, "each")]), name)
            return [(name, "then"), *failed]
        return [*self.branches(step, name), *failed]

    def branches(self, step: Step, name: str) -> Ends:
        after: Ends = []
        if isinstance(step, IfStep | SwitchStep):
            for block in branches(step):
                after += self.steps(block.steps, [(name, block.label)])
            if isinstance(step, IfStep) and not step.else_:
                after.append((name, "else"))
            if isinstance(step, SwitchStep) and not step.default:
                after.append((name, "default"))
            return after
        for block in branches(step):
            for child in block.steps:
                after += self.step(child, [(name, "")])
        return after


def _quoted(text: str) -> str:
    """Mermaid text in quotes; whatever could mean something to it or to HTML is a numbered entity."""
    plain = " ".join(text.split())
    return '"' + "".join(c if c.isalnum() or c in " .,:_-/()'" else f"#{ord(c)};" for c in plain) + '"'
