"""What people do to runs: cancel, retry, say what happened, take back, halt, resume. All of it journalled."""

from __future__ import annotations

from soar.engine.scribe import Data, Scribe
from soar.engine.steps import HAPPENED, moved, waiting
from soar.engine.undo import Done, undo_by_hand
from soar.errors import InputError, NotFoundError, StateConflictError
from soar.model.action import AttemptState
from soar.model.entry import Entry, EntryType
from soar.model.run import Run, RunKind, RunState, StepRecord, StepState
from soar.store.port import Fact, PutStep, ReopenRun, RequestCancel, SetControl, Store, Write

HALT = "halt"
_REOPENABLE = frozenset({RunState.FAILED, RunState.DENIED})
_AGAIN = frozenset({StepState.FAILED, StepState.DENIED})
_COMPUTED = frozenset({"if", "switch", "parallel", "foreach", "set", "stop"})


class Control:
    """Acts for one person."""

    def __init__(self, *, store: Store, scribe: Scribe, person: str) -> None:
        self._store = store
        self._scribe = scribe.acting_as(f"person:{person}")
        self._person = person

    async def cancel(self, run_id: str, *, reason: str) -> None:
        """Ask for a run's end; what it has sent stays sent. Raises NotFoundError, StateConflictError."""
        run = await self._run(run_id)
        told = self._told(EntryType.RUN_CANCEL_REQUESTED, run, reason)
        await self._commit(Fact(writes=(RequestCancel(run_id=run.id),), entries=(told,)))

    async def retry(self, run_id: str, *, reason: str) -> list[str]:
        """Do the failed and denied steps of a run again, with all that followed from them; returns their paths.

        Raises StateConflictError for a run that is not failed or denied.
        """
        run = await self._run(run_id)
        if run.state not in _REOPENABLE:
            raise StateConflictError(f"run {run.id} is {run.state}; only failed and denied runs are retried")
        steps = await self._store.steps(run.id)
        again = sorted(path for path, record in steps.items() if record.state in _AGAIN)
        # What a failed step looked at, and what handled failures; never what else a block did that failed. And what
        # was only computed: a condition on a step that failed may hold once it is done.
        beneath = ("on_error.", *(f"{path}.{part}" for path in again for part in ("verify[", "readback[", "on_error.")))
        forget = tuple(
            path
            for path, record in sorted(steps.items())
            if path in again
            or path.startswith(beneath)
            or record.kind in _COMPUTED
            or record.state is StepState.SKIPPED
        )
        told = self._told(EntryType.RUN_RETRIED, run, reason, data={"steps": len(again)})
        reopen = ReopenRun(run_id=run.id, expect=run.state, forget=forget)
        await self._commit(Fact(writes=(reopen,), entries=(told,)))
        return again

    async def resolve(self, run_id: str, *, happened: bool, reason: str, path: str | None = None) -> list[str]:
        """Say whether the actions of unknown outcome, or the one at `path`, happened; the run goes on from there.

        What happened is then verified and taken back in time as if its answer had come. Raises
        StateConflictError for a run that does not need review, InputError where nothing at `path` is unknown.
        """
        run = await self._run(run_id)
        if run.state is not RunState.NEEDS_REVIEW:
            raise StateConflictError(f"run {run.id} is {run.state}; only a run that needs review is resolved")
        steps = {
            step.path: step
            for step in (await self._store.steps(run.id)).values()
            if step.state is StepState.UNKNOWN and path in {None, step.path}
        }
        if path is not None and not steps:
            raise InputError(f"run {run.id} has no action of unknown outcome at {path!r}")
        writes: list[Write] = []
        entries = [self._told(EntryType.RUN_RESOLVED, run, reason, data={"happened": happened})]
        for attempt in await self._store.attempts(run.id):
            if attempt.state is AttemptState.UNKNOWN and attempt.path in steps:
                state = AttemptState.SUCCEEDED if happened else AttemptState.FAILED
                code = None if happened else "did_not_happen"
                error = None if happened else reason
                _, move, told = moved(self._scribe, attempt, state, code=code, error=error)
                writes.append(move)
                entries.append(told)
        writes += [PutStep(record=self._resolved(step, happened=happened, reason=reason)) for step in steps.values()]
        writes.append(ReopenRun(run_id=run.id, expect=run.state, forget=()))
        await self._commit(Fact(writes=tuple(writes), entries=tuple(entries)))
        return list(steps)

    def _resolved(self, step: StepRecord, *, happened: bool, reason: str) -> StepRecord:
        if happened:
            return waiting(step, phase=HAPPENED).model_copy(update={"error_code": None, "error": None})
        return step.model_copy(
            update={
                "state": StepState.FAILED,
                "finished_at": self._scribe.clock.now(),
                "error_code": "did_not_happen",
                "error": f"a person says it did not happen: {reason}",
            }
        )

    async def undo(self, run_id: str, *, path: str | None = None) -> list[str]:
        """Take back what a run did, last first; returns the undo runs.

        Raises InputError where nothing is left that can be.
        """
        run = await self._run(run_id)
        if run.kind is RunKind.UNDO:
            raise InputError(f"run {run.id} is itself an undo; start the playbook again instead")
        attempts = await self._store.attempts(run.id)
        earlier: list[Run] = []
        for at in {attempt.path for attempt in attempts}:
            children = await self._store.runs(parent=(run.id, at))
            earlier += [child for child in children if child.kind is RunKind.UNDO]
        done = Done(run=run, attempts=attempts, steps=await self._store.steps(run.id), earlier=earlier)
        fact, names = undo_by_hand(done, self._scribe, path=path, person=self._person)
        await self._commit(fact)
        return names

    async def halt(self, *, reason: str) -> None:
        """Stop every outgoing action, on all workers, from the next intent on."""
        told = self._scribe.entry(EntryType.HALT_SET, HALT, payload={"reason": reason})
        await self._commit(Fact(writes=(SetControl(key=HALT, value=reason),), entries=(told,)))

    async def resume(self, *, reason: str) -> None:
        """Let actions go out again."""
        told = self._scribe.entry(EntryType.HALT_CLEARED, HALT, payload={"reason": reason})
        await self._commit(Fact(writes=(SetControl(key=HALT, value=None),), entries=(told,)))

    async def _run(self, run_id: str) -> Run:
        run = await self._store.run(run_id)
        if run is None:
            raise NotFoundError(f"no run {run_id}; `soar runs list` shows the latest")
        return run

    def _told(self, kind: EntryType, run: Run, reason: str, data: Data | None = None) -> Entry:
        return self._scribe.entry(kind, run.id, run_id=run.id, payload={"reason": reason}, data=data)

    async def _commit(self, fact: Fact) -> None:
        refusal = (await self._store.commit([fact]))[0]
        if refusal is not None:
            raise refusal
