"""What people do to runs: cancel, retry, say what happened, take back, halt, resume. All of it journalled."""

from __future__ import annotations

from soar.engine.scribe import Data, Scribe
from soar.engine.undo import undo_by_hand
from soar.errors import InputError, NotFoundError, StateConflictError
from soar.model.action import AttemptState
from soar.model.entry import Entry, EntryType
from soar.model.run import Run, RunKind, RunState, StepState
from soar.store.port import Fact, MoveAttempt, PutStep, ReopenRun, RequestCancel, SetControl, Store, Write

HALT = "halt"
_REOPENABLE = frozenset({RunState.FAILED, RunState.DENIED})
_AGAIN = frozenset({StepState.FAILED, StepState.DENIED})


class Control:
    """Acts for one person."""

    def __init__(self, *, store: Store, scribe: Scribe, person: str) -> None:
        self._store = store
        self._scribe = scribe.acting_as(f"person:{person}")

    async def cancel(self, run_id: str, *, reason: str) -> None:
        """Ask for a run's end; what it has sent stays sent. Raises NotFoundError, StateConflictError."""
        run = await self._run(run_id)
        told = self._told(EntryType.RUN_CANCEL_REQUESTED, run, reason)
        await self._commit(Fact(writes=(RequestCancel(run_id=run.id),), entries=(told,)))

    async def retry(self, run_id: str, *, reason: str) -> list[str]:
        """Do the failed and denied steps of a run again; returns their paths.

        Raises StateConflictError for a run that is not failed or denied.
        """
        run = await self._run(run_id)
        if run.state not in _REOPENABLE:
            raise StateConflictError(f"run {run.id} is {run.state}; only failed and denied runs are retried")
        steps = await self._store.steps(run.id)
        forget = tuple(sorted(path for path, record in steps.items() if record.state in _AGAIN))
        told = self._told(EntryType.RUN_RETRIED, run, reason, data={"steps": len(forget)})
        reopen = ReopenRun(run_id=run.id, expect=run.state, forget=forget)
        await self._commit(Fact(writes=(reopen,), entries=(told,)))
        return list(forget)

    async def resolve(self, run_id: str, *, happened: bool, reason: str) -> list[str]:
        """Say whether the actions of unknown outcome happened; the run goes on from there.

        Raises StateConflictError for a run that does not need review.
        """
        run = await self._run(run_id)
        if run.state is not RunState.NEEDS_REVIEW:
            raise StateConflictError(f"run {run.id} is {run.state}; only a run that needs review is resolved")
        steps = [s for s in (await self._store.steps(run.id)).values() if s.state is StepState.UNKNOWN]
        now = self._scribe.clock.now()
        writes: list[Write] = []
        for attempt in await self._store.attempts(run.id):
            if attempt.state is AttemptState.UNKNOWN and attempt.path in {step.path for step in steps}:
                to = AttemptState.SUCCEEDED if happened else AttemptState.FAILED
                writes.append(
                    MoveAttempt(
                        run_id=run.id,
                        path=attempt.path,
                        number=attempt.number,
                        expect=attempt.state,
                        to=to,
                        at=now,
                        error_code=None if happened else "did_not_happen",
                    )
                )
        state = StepState.SUCCEEDED if happened else StepState.FAILED
        for step in steps:
            record = step.model_copy(
                update={
                    "state": state,
                    "finished_at": now,
                    "error_code": None if happened else "did_not_happen",
                    "error": None if happened else f"a person says it did not happen: {reason}",
                }
            )
            writes.append(PutStep(record=record))
        writes.append(ReopenRun(run_id=run.id, expect=run.state, forget=()))
        told = self._told(EntryType.RUN_RESOLVED, run, reason, data={"happened": happened})
        await self._commit(Fact(writes=tuple(writes), entries=(told,)))
        return [step.path for step in steps]

    async def undo(self, run_id: str, *, path: str | None = None) -> list[str]:
        """Take back what a run did, last first; returns the undo runs. Raises InputError if nothing can be."""
        run = await self._run(run_id)
        if run.kind is RunKind.UNDO:
            raise InputError(f"run {run.id} is itself an undo; start the playbook again instead")
        fact = undo_by_hand(run, await self._store.attempts(run.id), self._scribe, path=path)
        await self._commit(fact)
        return [entry.subject for entry in fact.entries if entry.type is EntryType.RUN_CREATED]

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
