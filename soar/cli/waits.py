"""What the steps of a run wait for, as it stands now."""

from __future__ import annotations

from collections.abc import Iterable

from soar.engine.wording import awaited
from soar.model.run import StepRecord, StepState
from soar.store.port import Store


async def waits_of(store: Store, steps: Iterable[StepRecord]) -> tuple[str, ...]:
    """One line for each step that waits: its path, and for what."""
    return tuple([await _waits_for(store, step) for step in steps if step.state is StepState.WAITING])


async def _waits_for(store: Store, step: StepRecord) -> str:
    phase, data = step.data.get("phase"), step.data
    approval = await store.approval(data["approval_id"]) if phase in {"approval", "answer"} else None
    if phase == "queued":
        before = await store.before(step.run_id, step.path)
        data = {
            **data,
            "why": "it was called, and a worker goes on with it" if before is None else f"{before} before it",
        }
    return f"{step.path}: {awaited(data, approval)}"
