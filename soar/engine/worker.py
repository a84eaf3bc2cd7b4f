"""Leases ready runs and carries each as far as it goes."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import timedelta

import structlog

from soar.engine.approvals import closed_entry
from soar.engine.context import Park, RunContext, Scope, StepFailed, Stopped, Undetermined
from soar.engine.interpreter import Interpreter
from soar.engine.programs import Program, Programs
from soar.engine.recorder import Recorder
from soar.engine.scribe import Scribe
from soar.engine.undo import undo_playbook
from soar.errors import (
    ExpressionError,
    LeaseLostError,
    RunCancelledError,
    StoreUnavailableError,
)
from soar.model.action import Attempt, AttemptState
from soar.model.approval import ApprovalState
from soar.model.entry import EntryType
from soar.model.run import Run, RunKind, RunState, StepState
from soar.store.port import FinishRun, Lease, ParkRun, SignalRun, Store, UpdateApproval, Write

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=30)
RENEW_EVERY_SECONDS = 10.0
IDLE_POLL_SECONDS = 0.2
STORE_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class _End:
    """How a leased run is given back."""

    state: RunState
    error: str | None = None
    outputs: dict[str, object] | None = None


class Worker:
    """One worker of possibly many on the same store."""

    def __init__(
        self,
        *,
        name: str,
        store: Store,
        recorder: Recorder,
        scribe: Scribe,
        programs: Programs,
        interpreter: Interpreter,
        concurrency: int = 50,
    ) -> None:
        self.name = name
        self._store = store
        self._recorder = recorder
        self._scribe = scribe.acting_as(f"worker:{name}")
        self._programs = programs
        self._interpreter = interpreter
        self._concurrency = concurrency
        self._active: dict[str, tuple[Run, asyncio.Task[None]]] = {}
        self._bell = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """There may be something to lease: look now, do not wait for the poll."""
        self._bell.set()

    async def run(self) -> None:
        """Work until `stop`; a store that is away for a while is waited for."""
        renewal = asyncio.create_task(self._renew(), name=f"{self.name}-renew")
        try:
            while not self._stopping:
                try:
                    await self._lease_some()
                except StoreUnavailableError as failure:
                    log.warning("worker.store_unavailable", worker=self.name, error=str(failure))
                    await asyncio.sleep(STORE_PAUSE_SECONDS)
                    continue
                self._bell.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._bell.wait(), IDLE_POLL_SECONDS)
            await asyncio.gather(*(task for _, task in self._active.values()), return_exceptions=True)
        finally:
            renewal.cancel()
            for _, task in self._active.values():
                task.cancel()

    def stop(self) -> None:
        """Lease nothing more; what is under way goes on to its next resting place."""
        self._stopping = True
        self._bell.set()

    async def _lease_some(self) -> None:
        free = self._concurrency - len(self._active)
        if free <= 0:
            return
        until = self._scribe.clock.now() + LEASE
        for run in await self._store.lease(owner=self.name, until=until, limit=free):
            task = asyncio.create_task(self._carry(run), name=run.id)
            self._active[run.id] = (run, task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._active[task.get_name()]
        self._bell.set()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_SECONDS)
            leases = [Lease(run_id=run.id, epoch=run.epoch) for run, _ in self._active.values()]
            try:
                lost = await self._store.renew(owner=self.name, leases=leases, until=self._scribe.clock.now() + LEASE)
            except StoreUnavailableError as failure:
                log.warning("worker.renew_failed", worker=self.name, error=str(failure))
                continue
            for lease in lost:
                if lease.run_id in self._active:
                    log.warning("worker.lease_lost", worker=self.name, run=lease.run_id)
                    self._active[lease.run_id][1].cancel()

    async def _carry(self, run: Run) -> None:
        """One leased run to its next resting place.

        Whatever happens here, no run stays `running` longer than its lease: recovery takes it back.
        """
        try:
            context = await self._load(run)
            await self._give_back(context, await self._advance(context))
        except LeaseLostError:
            log.warning("run.lease_lost", run=run.id, epoch=run.epoch)
        except StoreUnavailableError as failure:
            log.warning("run.store_unavailable", run=run.id, error=str(failure))

    async def _load(self, run: Run) -> RunContext:
        program = await self._programs.get(run.playbook_digest)
        if run.kind is RunKind.UNDO:
            program = Program(undo_playbook(run, program.playbook))
        attempts: dict[str, list[Attempt]] = {}
        for attempt in await self._store.attempts(run.id):
            attempts.setdefault(attempt.path, []).append(attempt)
        return RunContext(
            run=run,
            program=program,
            alert=await self._store.alert(run.alert_id) if run.alert_id else None,
            records=await self._store.steps(run.id),
            attempts=attempts,
            recorder=self._recorder,
            scribe=self._scribe,
        )

    async def _advance(self, context: RunContext) -> _End | Park:
        run = context.run
        if run.cancel_requested:
            return _CANCELLED
        scope = Scope(
            alert=context.alert.model_dump(mode="json") if context.alert else None,
            run={"id": run.id, "playbook": run.playbook_id, "kind": run.kind.value, "depth": run.depth},
            vars=dict(run.vars),
        )
        try:
            return _End(state=RunState.SUCCEEDED, outputs=await self._interpreter.advance(context, scope))
        except Park as park:
            return park
        except (Stopped, Undetermined, StepFailed, RunCancelledError, ExpressionError) as way:
            return _end_of(way)
        except (LeaseLostError, StoreUnavailableError):
            raise
        except Exception as bug:
            # A bug must end one run where people see it, not send it through recovery for ever.
            log.exception("run.bug", run=run.id)
            return _bug(context, bug)

    async def _give_back(self, context: RunContext, end: _End | Park) -> None:
        run = context.run
        if isinstance(end, Park):
            await context.save(ParkRun(run_id=run.id, wake_at=end.wake_at))
            self._bell.set()
            return
        finish = FinishRun(
            run_id=run.id,
            state=end.state,
            outputs=dict(end.outputs or {}),
            error=end.error,
            at=context.now(),
        )
        writes: list[Write] = [finish]
        entries = []
        if end.state is RunState.CANCELLED:
            for approval in await self._store.approvals(run_id=run.id):
                if approval.state in {ApprovalState.PENDING, ApprovalState.GRANTED}:
                    over = approval.model_copy(update={"state": ApprovalState.CANCELLED})
                    votes = len(approval.votes)
                    writes.append(UpdateApproval(approval=over, expect=approval.state, expect_votes=votes))
                    entries.append(closed_entry(context.scribe, over))
        if run.kind is RunKind.CALL and run.parent_run_id is not None:
            writes.append(SignalRun(run_id=run.parent_run_id))
        payload = {"outputs": end.outputs, "error": end.error}
        entries.append(
            context.entry(
                EntryType.RUN_FINISHED,
                run.id,
                payload={key: value for key, value in payload.items() if value} or None,
                data={"state": end.state.value},
            )
        )
        await context.save(*writes, entries=tuple(entries))
        log.info("run.finished", run=run.id, playbook=run.playbook_id, state=end.state.value, error=end.error)


_CANCELLED = _End(state=RunState.CANCELLED, error="cancelled by a person")


def _end_of(way: Exception) -> _End:
    """How a run ends that did not reach the end of its playbook."""
    match way:
        case Stopped():
            return _End(state=RunState.SUCCEEDED if way.succeeded else RunState.FAILED, error=way.message)
        case Undetermined():
            return _End(state=RunState.NEEDS_REVIEW, error=f"{way.path}: {way}")
        case StepFailed():
            denied = way.record.state is StepState.DENIED
            state = RunState.DENIED if denied else RunState.FAILED
            return _End(state=state, error=f"{way.record.path}: {way}")
        case RunCancelledError():
            return _CANCELLED
        case _:
            return _End(state=RunState.FAILED, error=f"outputs: {way}")


def _bug(context: RunContext, bug: Exception) -> _End:
    """What was sent and not answered before the bug struck is unknown, and is called so."""
    tries = [attempt for attempts in context.attempts.values() for attempt in attempts]
    open_tries = any(attempt.state is AttemptState.INTENDED for attempt in tries)
    state = RunState.NEEDS_REVIEW if open_tries else RunState.FAILED
    return _End(state=state, error=f"internal error, please report it: {type(bug).__name__}: {bug}")
