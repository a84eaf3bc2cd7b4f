"""Leases ready runs and carries each as far as it goes."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Any

import structlog

from soar.engine.context import Park, RunContext, Scope, StepFailed, Stopped, Undetermined
from soar.engine.ending import CANCELLED, End, end_of, end_of_bug, ending
from soar.engine.interpreter import Interpreter
from soar.engine.leases import LeaseTimes
from soar.engine.notice import notice_playbook
from soar.engine.programs import Program, Programs
from soar.engine.recorder import Recorder
from soar.engine.scribe import Scribe
from soar.engine.undo import undo_playbook
from soar.errors import (
    ExpressionError,
    LeaseLostError,
    RunCancelledError,
    RunPausedError,
    StateConflictError,
    StoreUnavailableError,
)
from soar.model.playbook import Mode
from soar.model.run import Run, RunKind, RunState
from soar.store.port import Lease, ParkRun, Store

log = structlog.get_logger(__name__)

IDLE_POLL_SECONDS = 0.2
STORE_PAUSE_SECONDS = 1.0
Alerts = asyncio.Future[dict[str, dict[str, Any]]]
"""The alerts of the runs that were leased together, by id."""
_LOOKS = 5  # so often a run is read anew because somebody else changed what had been read


class Worker:
    """One worker of possibly many on the same store."""

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        *,
        name: str,
        store: Store,
        recorder: Recorder,
        scribe: Scribe,
        programs: Programs,
        interpreter: Interpreter,
        concurrency: int = 50,
        times: LeaseTimes,
    ) -> None:
        self.name = name
        self._store = store
        self._recorder = recorder
        self._scribe = scribe.acting_as(f"worker:{name}")
        self._programs = programs
        self._interpreter = interpreter
        self._concurrency = concurrency
        self._times = times
        # By lease: a run that was taken from us may come back while we have not yet let go of it.
        self._active: dict[Lease, asyncio.Task[None]] = {}
        # What is about to be given back is not ours any more soon, and that is no loss.
        self._leaving: set[Lease] = set()
        self._more = False  # the last look took all that there was room for
        self._bell = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """There may be something to lease: look now, do not wait for the poll."""
        self._bell.set()

    async def run(self) -> None:
        """Work until `stop`; a store that is away for a while is waited for."""
        renewal = asyncio.create_task(self._renew(), name=f"{self.name}-renew")
        ears = asyncio.create_task(self._store.listen(self.wake), name=f"{self.name}-listen")
        try:
            while not self._stopping:
                self._bell.clear()  # before looking: what comes after this line rings again
                if renewal.done():
                    await renewal
                await self._lease_some()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_POLL_SECONDS):  # wait_for can swallow a cancellation
                        await self._bell.wait()
            await asyncio.gather(*self._active.values(), return_exceptions=True)
        finally:
            unfinished = [renewal, ears, *self._active.values()]
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    def stop(self) -> None:
        """Lease nothing more; what is under way goes on to its next resting place."""
        self._stopping = True
        self._bell.set()

    async def _lease_some(self) -> None:
        free = self._concurrency - len(self._active)
        if free <= 0:
            return
        until = self._scribe.clock.now() + self._times.lease
        try:
            runs = await self._store.lease(owner=self.name, until=until, limit=free)
        except StoreUnavailableError as failure:
            log.warning("worker.store_unavailable", worker=self.name, error=str(failure))
            await asyncio.sleep(STORE_PAUSE_SECONDS)
            return
        self._more = len(runs) == free
        if not runs:
            return
        alerts = asyncio.ensure_future(self._store.alert_documents({run.alert_id for run in runs if run.alert_id}))
        alerts.add_done_callback(_seen)
        for run in runs:
            lease = Lease(run_id=run.id, epoch=run.epoch)
            task = asyncio.create_task(self._carry(run, alerts), name=run.id)
            self._active[lease] = task
            task.add_done_callback(partial(self._done, lease))

    def _done(self, lease: Lease, _: asyncio.Task[None]) -> None:
        del self._active[lease]
        self._leaving.discard(lease)
        if self._more:
            self._bell.set()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._times.renew_every.total_seconds())
            until = self._scribe.clock.now() + self._times.lease
            held = [lease for lease in self._active if lease not in self._leaving]
            try:
                lost = await self._store.renew(owner=self.name, leases=held, until=until)
            except StoreUnavailableError as failure:
                log.warning("worker.renew_failed", worker=self.name, error=str(failure))
                continue
            for lease in lost:
                if lease in self._active and lease not in self._leaving:
                    log.warning("worker.lease_lost", worker=self.name, run=lease.run_id)
                    self._active[lease].cancel()

    async def _carry(self, run: Run, alerts: Alerts) -> None:
        """One leased run to its next resting place.

        Whatever happens here, no run stays `running` longer than its lease: recovery takes it back.
        """
        try:
            for look in range(_LOOKS):
                try:
                    await self._once(run, alerts, first=run.epoch == 1 and look == 0)
                except StateConflictError as moved:
                    log.info("run.looks_again", run=run.id, why=str(moved))
                else:
                    return
            await self._end(run, end_of_bug(StateConflictError("the store keeps refusing what follows")))
        except LeaseLostError:
            log.warning("run.lease_lost", run=run.id, epoch=run.epoch)
        except StoreUnavailableError as failure:
            log.warning("run.store_unavailable", run=run.id, error=str(failure))
        except Exception:
            log.exception("run.bug", run=run.id)

    async def _once(self, run: Run, alerts: Alerts, *, first: bool) -> None:
        """Replay what is recorded, go on from there, give back; raises StateConflictError to be asked again."""
        context: RunContext | None = None
        try:
            context = await self._load(run, alerts, first=first)
            end = await self._advance(context)
            self._leaving.add(context.lease)
            if isinstance(end, Park):
                await context.save(ParkRun(run_id=run.id, wake_at=end.wake_at))
                self._bell.set()
            else:
                await self._end(run, end, context)
        except StateConflictError:
            if context is not None:
                self._leaving.discard(context.lease)
                await context.flush()  # what is known already is not found out a second time
            raise
        except (LeaseLostError, StoreUnavailableError):
            raise
        except Exception as bug:
            # A bug must end one run where people see it, not send it through recovery for ever.
            log.exception("run.bug", run=run.id)
            await self._end(run, end_of_bug(bug), context)

    async def _end(self, run: Run, end: End, context: RunContext | None = None) -> None:
        fact = await ending(self._store, self._scribe, run, end, context)
        if context is None:
            await self._recorder.record(fact)
        else:
            await context.save(*fact.writes, entries=fact.entries)
        if run.lock_key is not None or run.kind is RunKind.CALL:  # somebody may have waited for that
            self._bell.set()
        log.info("run.finished", run=run.id, playbook=run.playbook_id, state=end.state.value, error=end.error)

    async def _load(self, run: Run, alerts: Alerts, *, first: bool) -> RunContext:
        program = await self._programs.get(run.playbook_digest)
        shadow = await self._in_shadow(run, program)
        if run.kind is RunKind.UNDO:
            program = Program(undo_playbook(run, program.playbook))
        elif run.kind is RunKind.NOTICE:
            program = Program(notice_playbook(run, program.playbook))
        context = RunContext(
            run=run,
            program=program,
            # Shielded: others await the same, and one that is cancelled must not take them along.
            alert=(await asyncio.shield(alerts)).get(run.alert_id) if run.alert_id else None,
            records={},
            attempts={},
            recorder=self._recorder,
            scribe=self._scribe,
            first=first,
            shadow=shadow,
        )
        if not first:
            context.records |= await self._store.steps(run.id)
            for attempt in await self._store.attempts(run.id):
                context.know(attempt)
        return context

    async def _in_shadow(self, run: Run, program: Program) -> bool:
        """Whether this playbook, or any that called it, is only watched: a live sub-playbook must not send then."""
        if program.playbook.mode is Mode.SHADOW:
            return True
        if run.kind is not RunKind.CALL or run.parent_run_id is None:
            return False
        parent = await self._store.run(run.parent_run_id)
        return parent is not None and await self._in_shadow(parent, await self._programs.get(parent.playbook_digest))

    async def _advance(self, context: RunContext) -> End | Park:
        run = context.run
        if run.cancel_requested:
            return CANCELLED
        scope = Scope(
            alert=context.alert,
            run={"id": run.id, "playbook": run.playbook_id, "kind": run.kind.value, "depth": run.depth},
            vars=dict(run.vars),
        )
        try:
            outputs = await self._interpreter.advance(context, scope)
        except Park as park:
            return park
        except RunPausedError:
            return Park()  # whoever resumes it signals it, and replay finds every time that it waits for
        except (Stopped, Undetermined, StepFailed, RunCancelledError, ExpressionError) as way:
            return end_of(way)
        return End(state=RunState.SUCCEEDED, outputs=outputs)


def _seen(alerts: Alerts) -> None:
    """Whoever awaits it hears of a failure; where nobody got as far, nobody needs to."""
    if not alerts.cancelled():
        alerts.exception()
