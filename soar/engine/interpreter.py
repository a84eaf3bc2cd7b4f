"""Interprets a playbook by pure replay.

From the top, every step whose result is recorded takes it from the record; the first without one is done.
Waking from a timer, an approval, and recovery after a crash are therefore the same thing. Steps that only
compute are computed again: they see nothing but recorded values, so they find the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from soar.engine.act import Actor
from soar.engine.context import Park, RunContext, Scope, StepFailed, Stopped, Undetermined
from soar.engine.deadlines import BEGUN, begin, closed_by, time_out
from soar.engine.steps import HAPPENED
from soar.engine.waits import Waits
from soar.errors import ExpressionError
from soar.expr.compile import compile_expression, truthy
from soar.model.playbook import (
    ActionStep,
    AskStep,
    BaseStep,
    CallStep,
    ForeachStep,
    IfStep,
    ParallelStep,
    SetStep,
    Step,
    StopStep,
    SwitchStep,
    WaitStep,
)
from soar.model.run import StepRecord, StepState
from soar.store.port import Store

MAX_STEPS = 10_000
"""So many steps one run may take, loops included: beyond that it ends, because nobody meant that."""

_Acting = ActionStep | WaitStep | AskStep | CallStep


@dataclass(frozen=True)
class Interpreter:
    """Walks the tree. Actions and waits are done by others; the walk itself has no effects."""

    actor: Actor
    waits: Waits
    store: Store

    async def advance(self, context: RunContext, scope: Scope) -> dict[str, Any]:
        """Go on as far as possible; returns the run's outputs at the end of the playbook.

        Raises Park, Undetermined, Stopped or StepFailed, after the playbook's own `on_error` steps have run.
        """
        playbook = context.program.playbook
        try:
            await self._block(context, playbook.steps, prefix="", scope=scope)
        except StepFailed as failed:
            scope.vars["error"] = {
                "step": failed.record.path,
                "code": failed.record.error_code,
                "message": failed.record.error,
            }
            if playbook.on_error:
                await self._block(context, playbook.on_error, prefix="on_error.", scope=scope)
            raise
        outputs = context.program.render(playbook.outputs, scope.names())
        assert isinstance(outputs, dict)
        return outputs

    async def _block(self, context: RunContext, steps: Sequence[Step], *, prefix: str, scope: Scope) -> None:
        for index, step in enumerate(steps):
            await self._step(context, step, path=f"{prefix}{step.id or index}", scope=scope)

    async def _step(self, context: RunContext, step: Step, *, path: str, scope: Scope) -> None:
        try:
            record = await self._record_of(context, step, path, scope)
        except StepFailed as failed:  # of a step within this one
            if step.on_error == "fail":
                raise
            record = _failed_within(context, step, path, failed.record)
        scope.learn(record)
        if record.state in {StepState.SUCCEEDED, StepState.SKIPPED} or step.on_error == "continue":
            return
        if isinstance(step.on_error, tuple):
            await self._block(context, step.on_error, prefix=f"{path}.on_error.", scope=scope)
            return
        raise StepFailed(record)

    async def _record_of(self, context: RunContext, step: Step, path: str, scope: Scope) -> StepRecord:
        known = context.records.get(path)
        if isinstance(step, _Acting) and known and _ended(known) and not _cut_off(known, scope):
            return known
        if known is None and len(context.records) >= MAX_STEPS:
            raise Stopped(succeeded=False, message=f"{path}: more than {MAX_STEPS} steps in one run; see its loops")
        try:
            if not isinstance(step, IfStep) and step.if_ is not None and not _true(step.if_, scope):
                return _computed(context, step, path, StepState.SKIPPED)
            if step.timeout is None:
                return await self._do(context, step, path, scope)
            return await self._in_time(context, step, path, scope)
        except ExpressionError as failure:
            return _computed(context, step, path, StepState.FAILED, code=failure.code, error=str(failure))

    async def _in_time(self, context: RunContext, step: Step, path: str, scope: Scope) -> StepRecord:
        """A step that may take its `timeout` and no longer.

        It times out where something is left to do at its deadline; what was complete by then stays complete,
        however late that is seen. Replay takes the end from the step's row, never from the clock.
        """
        known = context.records.get(path)
        if scope.closed is not None or (known is not None and _ended(known)):
            return await self._replayed(context, step, path, scope)
        deadline = begin(context, step, path)
        inner = replace(scope.branch(), until=_earliest([deadline, scope.until]))
        try:
            record = await self._do(context, step, path, inner)
        except Park as park:
            if context.now() < deadline:
                raise Park(_earliest([park.wake_at, deadline])) from None
            await time_out(context, self.store, step, path)
            return await self._replayed(context, step, path, scope)
        except StepFailed as failed:
            _end_block(context, path, _failed_within(context, step, path, failed.record))
            scope.adopt(inner)
            raise
        except ExpressionError as failure:
            record = _computed(context, step, path, StepState.FAILED, code=failure.code, error=str(failure))
        _end_block(context, path, record)
        scope.adopt(inner)
        return record

    async def _replayed(self, context: RunContext, step: Step, path: str, scope: Scope) -> StepRecord:
        """A block that has ended, or lies within one that its deadline ended; what was found until then is seen."""
        known = context.records.get(path)
        if known is None or closed_by(known) != path:
            return await self._do(context, step, path, scope)
        if not isinstance(step, _Acting):
            inner = replace(scope.branch(), closed=path)
            with contextlib.suppress(Park, StepFailed, Stopped, ExpressionError):
                await self._do(context, step, path, inner)
            scope.adopt(inner)
        return known

    async def _do(self, context: RunContext, step: Step, path: str, scope: Scope) -> StepRecord:
        match step:
            case ActionStep() | WaitStep() | AskStep() | CallStep():
                return await self._act(context, step, path, scope)
            case SetStep():
                values = context.program.render(step.set, scope.names())
                scope.vars.update(values)
                return _computed(context, step, path, StepState.SUCCEEDED, result=values)
            case StopStep():
                message = context.program.render(step.message, scope.names()) if step.message else None
                _computed(context, step, path, StepState.SUCCEEDED, result=message)
                raise Stopped(succeeded=step.stop == "succeeded", message=message)
            case IfStep() | SwitchStep():
                return await self._choose(context, step, path, scope)
            case ParallelStep():
                return await self._parallel(context, step, path, scope)
            case ForeachStep():
                return await self._foreach(context, step, path, scope)

    async def _act(self, context: RunContext, step: _Acting, path: str, scope: Scope) -> StepRecord:
        _check_open(context, path, scope)
        match step:
            case ActionStep():
                return await self.actor.perform(context, step, path=path, scope=scope)
            case WaitStep():
                return await self.waits.wait(context, step, path=path, scope=scope)
            case AskStep():
                return await self.waits.ask(context, step, path=path, scope=scope)
            case CallStep():
                return await self.waits.call(context, step, path=path, scope=scope)

    async def _choose(self, context: RunContext, step: IfStep | SwitchStep, path: str, scope: Scope) -> StepRecord:
        name, branch = _branch(step, scope)
        record = _computed(context, step, path, StepState.SUCCEEDED, result=name)
        await self._block(context, branch, prefix=f"{path}.{name}.", scope=scope)
        return record

    async def _parallel(self, context: RunContext, step: ParallelStep, path: str, scope: Scope) -> StepRecord:
        scopes = [scope.branch() for _ in step.parallel]
        try:
            await _together(
                context,
                [
                    self._block(context, [branch], prefix=f"{path}.{index}.", scope=scopes[index])
                    for index, branch in enumerate(step.parallel)
                ],
            )
        finally:  # also where one failed: what handles that may need what the others found
            _merge(scope, scopes)
        return _computed(context, step, path, StepState.SUCCEEDED)

    async def _foreach(self, context: RunContext, step: ForeachStep, path: str, scope: Scope) -> StepRecord:
        elements = compile_expression(step.foreach).evaluate(scope.names()) or []
        if not isinstance(elements, list) or len(elements) > step.limit:
            what = f"{len(elements)} elements" if isinstance(elements, list) else type(elements).__name__
            error = f"foreach {step.foreach!r} gives {what}; it takes a list of at most {step.limit} (limit)"
            return _computed(context, step, path, StepState.FAILED, code="foreach", error=error)
        scopes = [scope.branch({step.as_: element, "index": i}) for i, element in enumerate(elements)]
        todo = iter(range(len(elements)))

        async def lane() -> None:
            """One element after the other. A round that parks keeps its lane; one that fails stops no other."""
            for index in todo:
                try:
                    await self._block(context, step.do, prefix=f"{path}.do[{index}].", scope=scopes[index])
                except StepFailed as failed:
                    failures[index] = failed

        failures: dict[int, StepFailed] = {}
        await _together(context, [lane() for _ in range(min(step.concurrency, len(elements)))])
        if failures:
            raise failures[min(failures)]  # whichever lane met it, replay finds the same
        results = [{name: s.steps[name] for name in s.steps if name not in scope.steps} for s in scopes]
        return _computed(context, step, path, StepState.SUCCEEDED, result=results)


async def _together(context: RunContext, branches: Sequence[Awaitable[None]]) -> None:
    """Run branches side by side to where each can go; then what matters most among how they ended is raised.

    A branch that fails does not stop another half-way through an action. Parking comes first, so that no
    branch is cut off: the run wakes at the earliest time any of them asked for.
    """
    context.lanes += len(branches)
    ends = await asyncio.gather(*branches, return_exceptions=True)
    context.lanes -= len(branches)
    raised = [end for end in ends if isinstance(end, BaseException)]
    for end in raised:
        if not isinstance(end, Park | Undetermined | Stopped | StepFailed):
            raise end  # the lease was lost, the store is gone, the worker stops
    parks = [end for end in raised if isinstance(end, Park)]
    if parks:
        raise Park(_earliest([park.wake_at for park in parks]))
    for kind in (Undetermined, StepFailed, Stopped):
        for end in raised:
            if isinstance(end, kind):
                raise end


def _failed_within(context: RunContext, step: BaseStep, path: str, inner: StepRecord) -> StepRecord:
    error = f"{inner.path}: {inner.error or inner.state.value}"
    return _computed(context, step, path, inner.state, code=inner.error_code, error=error)


def _merge(scope: Scope, branches: Sequence[Scope]) -> None:
    """What branches found, in the order of the file, whatever order they ended in; a later one wins.

    Only what a branch set itself counts: its copy of what was there before must not undo what another set.
    """
    before = dict(scope.vars)
    for inner in branches:
        scope.steps.update(inner.steps)
        scope.vars.update({k: v for k, v in inner.vars.items() if k not in before or v is not before[k]})


def _earliest(moments: Sequence[datetime | None]) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _cut_off(record: StepRecord, scope: Scope) -> bool:
    """Whether it is the deadline around it that ended this step: the walk came to here and no further."""
    return scope.closed is not None and closed_by(record) == scope.closed


def _check_open(context: RunContext, path: str, scope: Scope) -> None:
    """Raise Park where nothing that acts or waits may begin or go on, except what a person says has happened."""
    known = context.records.get(path)
    happened = known is not None and known.data.get("phase") == HAPPENED
    late = scope.until is not None and context.now() >= scope.until and not happened
    if late or scope.closed is not None:
        raise Park(scope.until)


def _end_block(context: RunContext, path: str, record: StepRecord) -> None:
    """The row of a step that no action has ended ends with it."""
    row = context.records[path]
    if row.state is StepState.WAITING and row.data.get("phase") == BEGUN:
        context.note(record.model_copy(update={"started_at": row.started_at}), over=row)


def _ended(record: StepRecord) -> bool:
    return record.state not in {StepState.WAITING, StepState.UNKNOWN}


def _true(source: str, scope: Scope) -> bool:
    return truthy(compile_expression(source).evaluate(scope.names()))


def _branch(step: IfStep | SwitchStep, scope: Scope) -> tuple[str, tuple[Step, ...]]:
    if isinstance(step, IfStep):
        assert step.if_ is not None
        return ("then", step.then) if _true(step.if_, scope) else ("else", step.else_)
    value = compile_expression(step.switch).evaluate(scope.names())
    name = value if isinstance(value, str) else json.dumps(value)
    return (f"case[{name}]", step.cases[name]) if name in step.cases else ("default", step.default)


def _computed(
    context: RunContext,
    step: BaseStep,
    path: str,
    state: StepState,
    *,
    result: Any = None,
    code: str | None = None,
    error: str | None = None,
) -> StepRecord:
    """A result that replay finds again by itself: told in the journal once, with the run's next fact."""
    now = context.now()
    record = StepRecord(
        run_id=context.run.id,
        path=path,
        step_id=step.id,
        kind=step.kind,
        state=state,
        result=result,
        error_code=code,
        error=error,
        started_at=now,
        finished_at=now,
    )
    context.note(record)
    return record
