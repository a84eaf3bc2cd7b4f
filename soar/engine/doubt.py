"""Calls whose outcome is not known: what may be repeated, what can be looked up, and what a person must say."""

from __future__ import annotations

from datetime import timedelta
from typing import NoReturn

from soar.engine.context import RunContext, Undetermined
from soar.engine.steps import OUTCOME_UNKNOWN, end, in_doubt, without_outcome
from soar.model.action import Attempt, AttemptState, Effect
from soar.model.entry import Entry
from soar.model.playbook import ActionStep
from soar.model.run import StepRecord, StepState
from soar.store.port import Write

REPEATABLE = frozenset({Effect.READ, Effect.IDEMPOTENT, Effect.KEYED})

LOOKS = (timedelta(0), timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=2))
"""Waits before each look of a read-back: what is not seen may be on its way, or a search index may be late."""

_CRASHES = 3  # so often a call is made again whose worker died under it


async def settle(context: RunContext, step: ActionStep, record: StepRecord) -> StepRecord | Attempt | None:
    """What the last try leaves to do: nothing (the step's record), find out about it (the attempt), or another try.

    An intent without an outcome, found under a new lease, is a call that may have been made.
    """
    attempt = context.last_try(record.path)
    if attempt is None or attempt.state not in {AttemptState.INTENDED, AttemptState.UNKNOWN}:
        return None
    if attempt.state is AttemptState.INTENDED:
        attempt = await mark_unknown(context, attempt, "the worker ended between intent and outcome")
    if attempt.request.effect not in REPEATABLE:
        return attempt
    if attempt.number < step.retry.attempts + _CRASHES:
        return None
    why = "its worker ended before every one of its answers"
    if attempt.request.effect is not Effect.READ:
        await undetermined(context, record, why)
    return await end(context, record, StepState.FAILED, code=OUTCOME_UNKNOWN, error=why)


async def mark_unknown(context: RunContext, attempt: Attempt, why: str, *writes: Write) -> Attempt:
    """Unknown is called unknown."""
    after, move, told = without_outcome(context.scribe, attempt, why)
    await context.save(move, *writes, entries=(told,))
    context.know(after)
    return after


async def undetermined(
    context: RunContext,
    record: StepRecord,
    why: str,
    *,
    writes: tuple[Write, ...] = (),
    entries: tuple[Entry, ...] = (),
) -> NoReturn:
    """A person must say what happened; raises Undetermined."""
    await context.save(*writes, entries=entries, record=in_doubt(record, why))
    raise Undetermined(record.path, why)


async def give_up(
    context: RunContext,
    record: StepRecord,
    state: StepState,
    *,
    code: str,
    error: str,
    writes: tuple[Write, ...] = (),
    entries: tuple[Entry, ...] = (),
) -> StepRecord:
    """End a step that may not be sent, or not again.

    Raises Undetermined where a try before may have taken effect: that there is no other one says nothing about it.
    """
    last = context.last_try(record.path)
    if last is not None and last.state is AttemptState.UNKNOWN and last.request.effect is not Effect.READ:
        why = f"a try before may have taken effect, and it may not be repeated: {error}"
        await undetermined(context, record, why, writes=writes, entries=entries)
    return await end(context, record, state, code=code, error=error, writes=writes, entries=entries)
