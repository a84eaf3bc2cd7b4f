"""A playbook as a picture: an SVG of nested blocks read top to bottom, or Mermaid for a README."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Final

from soar.library.blocks import Block, branches, error_steps
from soar.library.describe import conditions, details, gathering, headline
from soar.library.mermaid import mermaid
from soar.model.playbook import ForeachStep, IfStep, ParallelStep, Playbook, Step, SwitchStep

WIDTH: Final = 340  # of a step's box, in px
PAD: Final = 14
GAP: Final = 26  # between steps, room for an arrow
LINE: Final = 17
_LETTERS: Final = 44  # of details that fit into a box

_STYLE: Final = """
text{font:12px ui-sans-serif,system-ui,-apple-system,"Segoe UI",sans-serif;fill:#475467}
.head{font-weight:600;font-size:13px;fill:#101828}
.code{font-family:ui-monospace,SFMono-Regular,Menlo,monospace;font-size:11.5px}
.id{font-size:11px;fill:#98a2b3}
.label{font-weight:600;font-size:11px;letter-spacing:.04em}
.box{fill:#fff;stroke:#d0d5dd}
.frame{fill:#f9fafb;stroke:#d0d5dd}
.lane{fill:#fff;stroke:#eaecf0}
.error{fill:#fef3f2;stroke:#fda29b;stroke-dasharray:4 3}
.wire{stroke:#98a2b3;stroke-width:1.25;fill:none}
"""

_ACCENTS: Final = MappingProxyType(
    {
        "trigger": "#6941c6",
        "use": "#1570ef",
        "if": "#dc6803",
        "switch": "#dc6803",
        "parallel": "#0e9384",
        "foreach": "#0e9384",
        "wait": "#667085",
        "ask": "#c11574",
        "call": "#4e5ba6",
        "set": "#667085",
        "stop": "#d92d20",
    }
)

Draw = Callable[[float, float], list[str]]


@dataclass(frozen=True, slots=True)
class _Box:
    """A part of the picture: its size in px, and how to draw it with its top left corner at x, y."""

    width: float
    height: float
    draw: Draw


def svg(playbook: Playbook) -> str:
    """The playbook as one self-contained SVG; all its text is escaped."""
    trigger = _card("trigger", playbook.id, [*conditions(playbook.on), *gathering(playbook)], None)
    parts = [trigger, *map(_step, playbook.steps)]
    body = _stack(parts)
    if playbook.on_error:
        body = _column([body, _framed("error", "if a step fails", _stack(list(map(_step, playbook.on_error))))])
    width, height = body.width + 2 * GAP, body.height + 2 * GAP
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    title = f"<title>{escape(playbook.id)}: {escape(playbook.description)}</title>"
    arrow = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#98a2b3"/></marker></defs>'
    )
    ground = f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>'
    drawn = "\n".join(body.draw(GAP, GAP))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>{title}<style>{_STYLE}</style>{arrow}{ground}\n'
        f"{drawn}\n</svg>\n"
    )


def _step(step: Step) -> _Box:
    """A step, with the blocks it holds and the steps it takes where it fails."""
    handlers = error_steps(step)
    box = _block(step)
    if handlers is None:
        return box
    return _column([box, _framed("error", "if this fails", _stack(list(map(_step, handlers.steps))))], gap=8)


def _block(step: Step) -> _Box:
    blocks = branches(step)
    if not blocks:
        return _card(step.kind, headline(step), details(step), step.id)
    if isinstance(step, ParallelStep):
        inner = _row([_step(child) for child in step.parallel])
    elif isinstance(step, ForeachStep):
        inner = _stack(list(map(_step, step.do)))
    else:
        inner = _row([_lane(block) for block in _with_else(step, blocks)])
    return _framed(step.kind, headline(step), inner, details(step), step.id)


def _with_else(step: Step, blocks: list[Block]) -> list[Block]:
    """A branch that does nothing is drawn too: that nothing happens is worth seeing."""
    if isinstance(step, IfStep) and not step.else_:
        return [*blocks, Block("else", (), ())]
    if isinstance(step, SwitchStep) and not step.default:
        return [*blocks, Block("default", (), ())]
    return blocks


def _lane(block: Block) -> _Box:
    steps = _stack(list(map(_step, block.steps))) if block.steps else _nothing()
    return _framed("lane", block.label, steps)


def _nothing() -> _Box:
    return _Box(90, LINE, lambda x, y: [_text(x, y + 12, "nothing", "id")])


def _card(kind: str, head: str, lines: Sequence[str], step_id: str | None) -> _Box:
    """A step without inner steps: an accent, what it does, its id, and details below."""
    text = _cut_lines(lines)
    height = 2 * PAD + 10 + LINE * len(text) + (2 if text else 0)

    def draw(x: float, y: float) -> list[str]:
        accent = _ACCENTS.get(kind, _ACCENTS["set"])
        drawn = [
            f'<rect class="box" x="{x:g}" y="{y:g}" width="{WIDTH}" height="{height:g}" rx="8"/>',
            f'<rect x="{x:g}" y="{y + 8:g}" width="3.5" height="{height - 16:g}" rx="1.75" fill="{accent}"/>',
            _text(x + PAD, y + PAD + 9, _cut(head, _LETTERS - len(step_id or "") - 4), "head"),
        ]
        if step_id:
            drawn.append(_text(x + WIDTH - PAD, y + PAD + 9, step_id, "id", anchor="end"))
        drawn += [_text(x + PAD, y + PAD + 11 + LINE * (row + 1), line, "code") for row, line in enumerate(text)]
        return drawn

    return _Box(WIDTH, height, draw)


def _framed(kind: str, head: str, inner: _Box, lines: Sequence[str] = (), step_id: str | None = None) -> _Box:
    """Inner steps within a frame under a heading."""
    letters = max(12, int((inner.width + PAD) / 6.7))
    text = [_cut(line, letters) for line in lines]
    top = PAD + 20 + LINE * len(text)
    width, height = inner.width + 2 * PAD, top + inner.height + PAD
    ground = kind if kind in {"error", "lane"} else "frame"
    color = {"error": "#b42318", "lane": "#667085"}.get(kind) or _ACCENTS[kind]

    def draw(x: float, y: float) -> list[str]:
        drawn = [
            f'<rect class="{ground}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="10"/>',
            _text(x + PAD, y + PAD + 7, _cut(head, letters - len(step_id or "")), "label", color=color),
        ]
        if step_id:
            drawn.append(_text(x + width - PAD, y + PAD + 7, step_id, "id", anchor="end"))
        drawn += [_text(x + PAD, y + PAD + 7 + LINE * (row + 1), line, "code") for row, line in enumerate(text)]
        return drawn + inner.draw(x + PAD, y + top)

    return _Box(width, height, draw)


def _stack(boxes: list[_Box]) -> _Box:
    """One after the other, centred, with arrows."""
    return _column(boxes, wired=True)


def _column(boxes: list[_Box], *, gap: float = GAP, wired: bool = False) -> _Box:
    width = max(box.width for box in boxes)
    height = sum(box.height for box in boxes) + gap * (len(boxes) - 1)

    def draw(x: float, y: float) -> list[str]:
        drawn: list[str] = []
        middle = x + width / 2
        for index, box in enumerate(boxes):
            if index and wired:
                drawn.append(f'<path class="wire" d="M{middle:g} {y - gap + 2:g}V{y - 2:g}" marker-end="url(#tip)"/>')
            drawn += box.draw(middle - box.width / 2, y)
            y += box.height + gap
        return drawn

    return _Box(width, height, draw)


def _row(boxes: list[_Box]) -> _Box:
    """Side by side, tops aligned."""
    width = sum(box.width for box in boxes) + PAD * (len(boxes) - 1)

    def draw(x: float, y: float) -> list[str]:
        drawn: list[str] = []
        for box in boxes:
            drawn += box.draw(x, y)
            x += box.width + PAD
        return drawn

    return _Box(width, max(box.height for box in boxes), draw)


def _text(x: float, y: float, text: str, style: str, *, anchor: str = "start", color: str | None = None) -> str:
    fill = f' style="fill:{color}"' if color else ""
    end = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text class="{style}" x="{x:g}" y="{y:g}"{end}{fill}>{escape(text)}</text>'


def _cut_lines(lines: Sequence[str]) -> list[str]:
    return [_cut(line, _LETTERS) for line in lines]


def _cut(text: str, letters: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= letters else text[: max(1, letters - 1)] + "…"


__all__ = ["mermaid", "svg"]
