"""Taking back: a run of its own, waiting for its time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from soar.engine.admission import run_created
from soar.engine.context import RunContext, Scope
from soar.engine.scribe import Scribe
from soar.errors import InputError
from soar.model.action import ActionRequest, Attempt, AttemptState
from soar.model.decision import Decision, ExpireObligation
from soar.model.entry import EntryType
from soar.model.playbook import ActionStep, Playbook
from soar.model.run import Run, RunKind, RunState
from soar.store.port import Fact, InsertRun


def undo_delay(step: ActionStep, decision: Decision) -> timedelta | None:
    """After what time it is taken back by itself: the shortest that playbook or policy asks for."""
    spans = [o.after for o in decision.obligations if isinstance(o, ExpireObligation)]
    if step.undo is not None and step.undo.after is not None:
        spans.append(step.undo.after)
    return min(spans, default=None)


def schedule_undo(
    context: RunContext, step: ActionStep, *, request: ActionRequest, after: timedelta, scope: Scope
) -> Fact:
    """The run that will take back what `request` did; part of the fact that records its success.

    An action that cannot be taken back schedules nothing.
    """
    use, params = _how(context, step, request, scope)
    if use is None:
        return Fact()
    wake_at = context.now() + after
    run = undo_run(context.run, scribe=context.scribe, path=request.path, use=use, params=params)
    run = run.model_copy(update={"state": RunState.WAITING, "wake_at": wake_at})
    told = context.entry(
        EntryType.UNDO_SCHEDULED,
        request.path,
        data={"run": run.id, "use": use, "after_seconds": int(after.total_seconds())},
    )
    return Fact(writes=(InsertRun(run=run),), entries=(told, run_created(context.scribe, run)))


def undo_by_hand(run: Run, attempts: list[Attempt], scribe: Scribe, *, path: str | None) -> Fact:
    """Runs that take back, last done first, every action of a run that declares how (or the one at `path`)."""
    facts = []
    for attempt in sorted(attempts, key=lambda a: a.intended_at, reverse=True):
        request = attempt.request
        if attempt.state is not AttemptState.SUCCEEDED or request.undo is None or path not in {None, request.path}:
            continue
        use = f"{request.instance}.{request.undo}"
        undo = undo_run(run, scribe=scribe, path=request.path, use=use, params=request.params)
        told = scribe.entry(
            EntryType.UNDO_SCHEDULED, request.path, run_id=run.id, data={"run": undo.id, "use": use, "after_seconds": 0}
        )
        facts.append(Fact(writes=(InsertRun(run=undo),), entries=(told, run_created(scribe, undo))))
    if not facts:
        which = f"at {path!r}" if path else "in it"
        raise InputError(f"run {run.id} has nothing {which} that succeeded and can be taken back")
    return Fact(
        writes=tuple(write for fact in facts for write in fact.writes),
        entries=tuple(entry for fact in facts for entry in fact.entries),
    )


def undo_run(run: Run, *, scribe: Scribe, path: str, use: str, params: dict[str, Any]) -> Run:
    """A run that does nothing but this; its values travel in `vars`."""
    return Run(
        id=scribe.ids.new("run"),
        kind=RunKind.UNDO,
        state=RunState.READY,
        playbook_id=run.playbook_id,
        playbook_digest=run.playbook_digest,
        alert_id=run.alert_id,
        parent_run_id=run.id,
        parent_path=path,
        vars={"use": use, "params": params},
        priority=run.priority,
        depth=run.depth,
        created_at=scribe.clock.now(),
    )


def undo_playbook(run: Run, playbook: Playbook) -> Playbook:
    """What an undo run interprets. Values are taken from `vars`, so that none is ever rendered a second time."""
    params = {name: f"${{{{ vars.params.{name} }}}}" for name in run.vars["params"]}
    step = ActionStep.model_validate({"id": "undo", "use": run.vars["use"], "with": params})
    return playbook.model_copy(update={"steps": (step,), "on_error": (), "outputs": {}})


def _how(
    context: RunContext, step: ActionStep, request: ActionRequest, scope: Scope
) -> tuple[str | None, dict[str, Any]]:
    if step.undo is not None:
        params = context.program.render(step.undo.with_, scope.names()) if step.undo.with_ else request.params
        return step.undo.use, params
    return (f"{request.instance}.{request.undo}" if request.undo else None), request.params
