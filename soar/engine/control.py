"""What people do to runs: cancel, hold, retry, skip, say what happened, take back, halt. All of it journalled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from soar.engine.again import AGAIN, forgotten, forgotten_from, repeats
from soar.engine.authority import Authority
from soar.engine.programs import Programs
from soar.engine.recorder import record_alone
from soar.engine.scribe import Data, Scribe
from soar.engine.skip import SKIPPABLE, asked_no_more, looks_that_wait, skippable, skipped_by_person
from soar.engine.steps import HAPPENED, moved, waiting
from soar.engine.undo import Done, undo_by_hand
from soar.errors import InputError, NotFoundError, StateConflictError
from soar.model.action import AttemptState
from soar.model.entry import Entry, EntryType
from soar.model.playbook import Playbook
from soar.model.run import Run, RunKind, RunState, StepRecord, StepState
from soar.policy.person import Deed, SubjectFacts
from soar.store.port import Fact, PutStep, ReopenRun, RequestCancel, SetControl, SetPaused, Store, Write

HALT = "halt"
_LOOKS = 10  # so often the runs to hold are read anew because they moved meanwhile
_REOPENABLE = frozenset({RunState.FAILED, RunState.DENIED})


class Control:
    """Acts for one person. Every deed raises NotAllowedError where policy does not let them."""

    def __init__(self, *, store: Store, scribe: Scribe, person: str, authority: Authority) -> None:
        self._store = store
        self._authority = authority
        self._scribe = scribe.acting_as(f"person:{person}")
        self._person = person

    async def cancel(self, run_id: str, *, reason: str) -> None:
        """Ask for a run's end; what it has sent stays sent. Raises NotFoundError, StateConflictError."""
        run = await self._run(run_id)
        told = self._told(EntryType.RUN_CANCEL_REQUESTED, run, reason)
        await self._may(Deed.CANCEL, run)
        await record_alone(self._store, Fact(writes=(RequestCancel(run_id=run.id),), entries=(told,)))

    async def pause(self, run_id: str, *, reason: str) -> list[str]:
        """Hold a run and the sub-runs it waits for: no intent is recorded from now on. Returns the runs held.

        What was sent before gets its outcome. Time goes on: people may decide, approvals and timeouts end. Undo
        runs go on too. Raises NotFoundError, and StateConflictError for a run that has ended or is paused.
        """
        first = await self._run(run_id)
        held: list[str] = []
        await self._may(Deed.PAUSE, first)
        if first.final or first.paused:
            raise StateConflictError(f"run {first.id} is {'paused' if first.paused else first.state} already")
        # Until it is held, a run may begin one sub-run more; and what has ended meanwhile needs no holding.
        for _ in range(_LOOKS):
            open_ = [run for run in await self._with_called(run_id) if not run.final and not run.paused]
            if held and not open_:
                return held
            if open_ and await self._set_paused(open_, reason, paused=True):
                held += [run.id for run in open_]
        raise StateConflictError(f"run {run_id} keeps changing; look at it again")

    async def release(self, run_id: str, *, reason: str) -> list[str]:
        """Let a paused run go on, with its paused sub-runs; returns them. Raises NotFoundError, StateConflictError."""
        first = await self._run(run_id)
        await self._may(Deed.RELEASE, first)
        if not first.paused:
            raise StateConflictError(f"run {first.id} is not paused")
        held = [run for run in await self._with_called(run_id) if run.paused]
        if not await self._set_paused(held, reason, paused=False):
            raise StateConflictError(f"run {run_id} has changed meanwhile; look at it again")
        return [run.id for run in held]

    async def _set_paused(self, runs: Sequence[Run], reason: str, *, paused: bool) -> bool:
        """All of them in one fact, or none: False where one of them has moved."""
        kind = EntryType.RUN_PAUSED if paused else EntryType.RUN_RESUMED
        writes = tuple(SetPaused(run_id=run.id, paused=paused) for run in runs)
        try:
            await record_alone(
                self._store, Fact(writes=writes, entries=tuple(self._told(kind, run, reason) for run in runs))
            )
        except StateConflictError:
            return False
        return True

    async def _with_called(self, run_id: str) -> list[Run]:
        """A run, and those that it has called and waits for, and so on."""
        runs = [await self._run(run_id)]
        for step in (await self._store.steps(run_id)).values():
            if step.state is StepState.WAITING and step.kind == "call" and "run_id" in step.data:
                runs += await self._with_called(step.data["run_id"])
        return runs

    async def retry(self, run_id: str, *, reason: str, start: str | None = None, repeat: bool = False) -> list[str]:
        """Do the failed and denied steps of a run again, with all that followed from them; returns their paths.

        With `start`, one of the playbook's own steps: all from there on, see `forgotten_from`. Raises
        StateConflictError for a run that is not failed or denied, InputError where an action that took effect would
        take effect once more, unless the person says so with `repeat`.
        """
        run = await self._run(run_id)
        await self._may(Deed.RETRY, run)
        if run.state not in _REOPENABLE:
            raise StateConflictError(f"run {run.id} is {run.state}; only failed and denied runs are retried")
        steps = await self._store.steps(run.id)
        if start is None:
            again = sorted(path for path, record in steps.items() if record.state in AGAIN)
            forget = forgotten(steps, again)
        else:
            forget = forgotten_from(await self._playbook(run), steps, start)
            again = list(forget)
        twice = await repeats(self._store, run, forget)
        if twice and not repeat:
            raise InputError(
                f"run {run.id}: this would repeat what took effect: {', '.join(twice)};"
                " if it shall happen again, say so with --yes-again"
            )
        payload = {key: value for key, value in (("from", start), ("repeats", twice)) if value}
        told = self._told(EntryType.RUN_RETRIED, run, reason, data={"steps": len(again)}, more=payload)
        reopen = ReopenRun(run_id=run.id, expect=run.state, forget=forget)
        await record_alone(self._store, Fact(writes=(reopen,), entries=(told,)))
        return again

    async def _playbook(self, run: Run) -> Playbook:
        if run.kind is RunKind.UNDO:
            raise InputError(f"run {run.id} is an undo and has one step; retry it as a whole")
        return (await Programs(store=self._store, loaded=dict).get(run.playbook_digest)).playbook

    async def skip(self, run_id: str, path: str, *, reason: str) -> None:
        """Record a step that failed, was denied, waits or is unknown as skipped; the run goes on after it.

        What an unknown action did stays unknown; who was asked is asked no more; a sub-run that the step waits for
        is cancelled. Raises NotFoundError, InputError where nothing at `path` can be skipped, StateConflictError
        while the run is ready or running, or where somebody moved it meanwhile.
        """
        run = await self._run(run_id)
        await self._may(Deed.SKIP, run)
        if run.state not in SKIPPABLE:
            raise StateConflictError(f"run {run.id} is {run.state}; a step is skipped where its run rests unfinished")
        steps = await self._store.steps(run.id)
        record = skippable(run, steps, path)
        forget = forgotten(steps, [path]) if run.state in _REOPENABLE else ()
        # The run must still rest where we saw it: no worker has the step in hand.
        writes: list[Write] = [ReopenRun(run_id=run.id, expect=run.state, forget=forget)]
        entries: list[Entry] = []
        for each in (record, *looks_that_wait(steps, path)):
            writes.append(PutStep(record=skipped_by_person(each, now=self._scribe.clock.now(), reason=reason)))
            more, told = await asked_no_more(self._store, self._scribe, each, because="was skipped")
            writes += more
            entries += told
        data: Data = {"kind": record.kind, "was": record.state.value}
        skipped = self._scribe.entry(EntryType.STEP_SKIPPED, path, run_id=run.id, payload={"reason": reason}, data=data)
        await record_alone(self._store, Fact(writes=tuple(writes), entries=(skipped, *entries)))

    async def resolve(self, run_id: str, *, happened: bool, reason: str, path: str | None = None) -> list[str]:
        """Say whether the actions of unknown outcome, or the one at `path`, happened; the run goes on from there.

        What happened is then verified and taken back in time as if its answer had come. Raises
        StateConflictError for a run that does not need review, InputError where nothing at `path` is unknown.
        """
        run = await self._run(run_id)
        await self._may(Deed.RESOLVE, run)
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
        await record_alone(self._store, Fact(writes=tuple(writes), entries=tuple(entries)))
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
        await self._may(Deed.UNDO, run)
        if run.kind is RunKind.UNDO:
            raise InputError(f"run {run.id} is itself an undo; start the playbook again instead")
        attempts = await self._store.attempts(run.id)
        earlier: list[Run] = []
        for at in {attempt.path for attempt in attempts}:
            children = await self._store.runs(parent=(run.id, at))
            earlier += [child for child in children if child.kind is RunKind.UNDO]
        done = Done(run=run, attempts=attempts, steps=await self._store.steps(run.id), earlier=earlier)
        fact, names = undo_by_hand(done, self._scribe, path=path, person=self._person)
        await record_alone(self._store, fact)
        return names

    async def halt(self, *, reason: str) -> None:
        """Stop every outgoing action, on all workers, from the next intent on."""
        await self._authority.require(self._person, Deed.HALT, SubjectFacts(kind="service"))
        told = self._scribe.entry(EntryType.HALT_SET, HALT, payload={"reason": reason})
        await record_alone(self._store, Fact(writes=(SetControl(key=HALT, value=reason),), entries=(told,)))

    async def resume(self, *, reason: str) -> None:
        """Let actions go out again."""
        await self._authority.require(self._person, Deed.RESUME, SubjectFacts(kind="service"))
        told = self._scribe.entry(EntryType.HALT_CLEARED, HALT, payload={"reason": reason})
        await record_alone(self._store, Fact(writes=(SetControl(key=HALT, value=None),), entries=(told,)))

    async def _may(self, deed: Deed, run: Run) -> None:
        subject = SubjectFacts(kind="run", id=run.id, playbook=run.playbook_id)
        await self._authority.require(self._person, deed, subject, run_id=run.id)

    async def _run(self, run_id: str) -> Run:
        run = await self._store.run(run_id)
        if run is None:
            raise NotFoundError(f"no run {run_id}; `soar runs list` shows the latest")
        return run

    def _told(
        self,
        kind: EntryType,
        run: Run,
        reason: str,
        *,
        data: Data | None = None,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> Entry:
        return self._scribe.entry(kind, run.id, run_id=run.id, payload={"reason": reason, **more}, data=data)
