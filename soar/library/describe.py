"""Steps and triggers in the few words that pictures and listings show."""

from __future__ import annotations

from soar.library.predicates import predicates
from soar.model.duration import format_duration
from soar.model.playbook import (
    ActionStep,
    AskStep,
    CallStep,
    ForeachStep,
    IfStep,
    Playbook,
    SetStep,
    Step,
    StopStep,
    SwitchStep,
    Trigger,
    WaitStep,
)


def headline(step: Step) -> str:
    """What a step does."""
    match step:
        case ActionStep():
            text = step.use
        case IfStep():
            text = f"if {step.if_}"
        case SwitchStep():
            text = f"switch {step.switch}"
        case ForeachStep():
            text = f"for each {step.as_} of {step.foreach}, at most {step.limit}"
        case WaitStep():
            text = f"wait {_waiting(step)}"
        case AskStep():
            text = f"ask {_groups(step)}"
        case CallStep():
            text = f"call {step.call}"
        case SetStep():
            text = f"set {', '.join(step.set)}"
        case StopStep():
            text = f"stop: {step.stop}"
        case _:
            text = "side by side"
    return text


def details(step: Step) -> list[str]:
    """Under which conditions it does so, and what else happens."""
    lines = [f"only if {step.if_}"] if step.if_ and not isinstance(step, IfStep) else []
    if isinstance(step, ActionStep):
        if step.approval:
            lines.append(f"asks {_groups(step.approval)} first")
        if step.verify:
            lines.append(f"verified by {step.verify.use}: {step.verify.until}")
        if step.undo:
            after = f" after {format_duration(step.undo.after)}" if step.undo.after else " on request"
            lines.append(f"undone by {step.undo.use}{after}")
    if isinstance(step, AskStep):
        lines.append(step.ask)
    if isinstance(step, StopStep) and step.message:
        lines.append(step.message)
    if step.on_error == "continue":
        lines.append("goes on where it fails")
    return lines


def conditions(trigger: Trigger | None) -> list[str]:
    """When a playbook answers, one condition a line."""
    if trigger is None:
        return ["called by other playbooks or by hand"]
    lines = [one.text for field, match in trigger.match.items() for one in predicates(field, match)]
    if trigger.where:
        lines.append(f"where {trigger.where}")
    if trigger.max_age:
        lines.append(f"not older than {format_duration(trigger.max_age)}")
    return lines


def gathering(playbook: Playbook) -> list[str]:
    """How alerts of the same kind are taken together."""
    lines = []
    if playbook.dedupe:
        counted = f" {playbook.dedupe.count}" if playbook.dedupe.mode == "threshold" else ""
        keys = ", ".join(playbook.dedupe.key)
        lines.append(f"{playbook.dedupe.mode}{counted} within {format_duration(playbook.dedupe.within)} by {keys}")
    if playbook.lock:
        lines.append(f"one at a time by {playbook.lock}")
    return lines


def _waiting(step: WaitStep) -> str:
    limit = f", at most {format_duration(step.timeout)}" if step.timeout else ""
    if step.for_ is not None:
        return format_duration(step.for_)
    if step.until is not None:
        return f"until {step.until}"
    return f"for an alert{limit}"


def _groups(who: object) -> str:
    groups = getattr(who, "groups", ())
    return " and ".join(f"{group.min} of {group.group}" for group in groups)
