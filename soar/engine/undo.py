"""Taking back: a run of its own, waiting for its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from soar.engine.admission import run_created
from soar.engine.companion import companion, one_action
from soar.engine.context import RunContext, Scope
from soar.engine.scribe import Data, Scribe
from soar.errors import InputError
from soar.model.action import ActionRequest, Attempt, AttemptState
from soar.model.decision import Decision, ExpireObligation
from soar.model.entry import Entry, EntryType
from soar.model.playbook import ActionStep, Playbook
from soar.model.run import Run, RunKind, RunState, StepRecord
from soar.store.port import Fact, InsertRun, SignalRun, Write


@dataclass(frozen=True, kw_only=True)
class Undo:
    """How an action is taken back, and after what time by itself: settled before it is sent, noted with the intent."""

    use: str
    params: dict[str, Any]
    after_seconds: float | None
    redacted: tuple[str, ...] = ()  # fields of its params that stay masked

    def as_json(self) -> dict[str, Any]:
        """As a step's notes keep it."""
        return asdict(self)

    @classmethod
    def from_json(cls, noted: Mapping[str, Any]) -> Undo:
        """The inverse of `as_json`."""
        return cls(**{**noted, "redacted": tuple(noted.get("redacted", ()))})


def plan_undo(
    context: RunContext, step: ActionStep, *, request: ActionRequest, decision: Decision, scope: Scope
) -> Undo | None:
    """As the playbook says, else as the connector does where policy wants it; the shortest time counts.

    None where neither wants anything, or nothing takes it back. Raises ExpressionError where the playbook's own
    params for it cannot be rendered.
    """
    spans = [o.after for o in decision.obligations if isinstance(o, ExpireObligation)]
    if step.undo is not None and step.undo.after is not None:
        spans.append(step.undo.after)
    after_seconds = min(spans).total_seconds() if spans else None
    if step.undo is not None:
        params = context.program.render(step.undo.with_, scope.names()) if step.undo.with_ else request.params
        return Undo(use=step.undo.use, params=params, after_seconds=after_seconds, redacted=decision.redacted)
    return _connectors_own(request, after_seconds, decision.redacted) if spans else None


def _connectors_own(
    request: ActionRequest, after_seconds: float | None = None, redacted: tuple[str, ...] = ()
) -> Undo | None:
    if request.undo is None:
        return None
    use = f"{request.instance}.{request.undo}"
    return Undo(use=use, params=request.params, after_seconds=after_seconds, redacted=redacted)


def schedule_undo(context: RunContext, undo: Undo, *, path: str) -> Fact:
    """The run that will take it back by itself, if it is; part of the fact that records its success."""
    if undo.after_seconds is None:
        return Fact()
    run = undo_run(context.run, scribe=context.scribe, path=path, undo=undo)
    wake_at = context.now() + timedelta(seconds=undo.after_seconds)
    run = run.model_copy(update={"state": RunState.WAITING, "wake_at": wake_at})
    told = context.entry(
        EntryType.UNDO_SCHEDULED,
        path,
        data={"run": run.id, "use": undo.use, "after_seconds": int(undo.after_seconds)},
    )
    return Fact(writes=(InsertRun(run=run),), entries=(told, run_created(context.scribe, run)))


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a run did and what was taken back of it so far, as a person finds it."""

    run: Run
    attempts: Sequence[Attempt]
    steps: Mapping[str, StepRecord]
    earlier: Sequence[Run]  # its undo runs

    def can_undo(self, path: str | None) -> list[tuple[str, Undo]]:
        """What succeeded and can be taken back, last done first: all of it or the step at `path`."""
        found: dict[str, Undo] = {}
        for attempt in sorted(self.attempts, key=lambda a: a.intended_at, reverse=True):
            request = attempt.request
            if attempt.state is not AttemptState.SUCCEEDED or path not in {None, request.path}:
                continue
            noted = self.steps[request.path].data.get("undo") if request.path in self.steps else None
            undo = Undo.from_json(noted) if noted else _connectors_own(request, redacted=attempt.redacted)
            if undo is not None:
                found.setdefault(request.path, undo)
        return list(found.items())


def undo_by_hand(done: Done, scribe: Scribe, *, path: str | None, person: str) -> tuple[Fact, list[str]]:
    """Take back what a run did, last done first, or the step at `path`; names the undo runs.

    An undo run that waits for its time is told that it has come; what is taken back already, or about to be, is
    left alone. Raises InputError where nothing is left.
    """
    fact, names = Fact(), []
    earlier = {run.parent_path: run for run in done.earlier if run.state not in _CAME_TO_NOTHING}
    for at, undo in done.can_undo(path):
        run = earlier.get(at)
        if run is None:
            run = undo_run(done.run, scribe=scribe, path=at, undo=undo, person=person)
            write: Write = InsertRun(run=run)
            created: tuple[Entry, ...] = (run_created(scribe, run),)
        elif run.state is RunState.WAITING and run.epoch == 0:
            write, created = SignalRun(run_id=run.id), ()
        else:
            continue
        data: Data = {"run": run.id, "use": undo.use, "after_seconds": 0}
        told = scribe.entry(EntryType.UNDO_SCHEDULED, at, run_id=done.run.id, data=data)
        fact = Fact(writes=(*fact.writes, write), entries=(*fact.entries, told, *created))
        names.append(run.id)
    if not names:
        which = f"at {path!r}" if path else "in it"
        raise InputError(f"run {done.run.id} has nothing {which} that succeeded, can be taken back, and is not already")
    return fact, names


_CAME_TO_NOTHING = frozenset({RunState.FAILED, RunState.DENIED, RunState.CANCELLED})


def undo_run(run: Run, *, scribe: Scribe, path: str, undo: Undo, person: str | None = None) -> Run:
    """A run that does nothing but this; its values travel in `vars`, and so does who asked for it."""
    values = {"use": undo.use, "params": undo.params}
    values |= {"requester": person} if person else {}
    values |= {"redacted": list(undo.redacted)} if undo.redacted else {}
    return companion(run, scribe=scribe, kind=RunKind.UNDO, path=path, values=values)


def undo_playbook(run: Run, playbook: Playbook) -> Playbook:
    """What an undo run interprets."""
    params = run.vars["params"]
    return one_action(playbook, step_id="undo", use=run.vars["use"], values="vars.params", names=params)
