"""What doing a part of a run again forgets of it, and what that would repeat."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from soar.errors import InputError
from soar.model.action import AttemptState, Effect
from soar.model.playbook import Playbook
from soar.model.run import Run, RunKind, StepRecord, StepState
from soar.store.port import Store

BY_PERSON = "skipped_by_person"
"""The code of a step that a person has skipped; one that its own condition skipped has none."""

AGAIN = frozenset({StepState.FAILED, StepState.DENIED})

_COMPUTED = frozenset({"if", "switch", "parallel", "foreach", "set", "stop"})
_SAME_KEY = frozenset({Effect.READ, Effect.IDEMPOTENT, Effect.KEYED})
_NEW_KEY = frozenset({Effect.READ, Effect.IDEMPOTENT})  # a new sub-run has new keys
_DONE = frozenset({AttemptState.SUCCEEDED})
_MAYBE_DONE = frozenset({AttemptState.SUCCEEDED, AttemptState.UNKNOWN, AttemptState.INTENDED})


def forgotten(steps: Mapping[str, StepRecord], again: Collection[str]) -> tuple[str, ...]:
    """The paths to forget so that the steps `again` are done once more.

    What such a step looked at, and what handled failures; never what else a block did that failed. And what was
    only computed: a condition on a step that failed may hold once it is done. What a person skipped stays skipped.
    """
    beneath = ("on_error.", *(f"{path}.{part}" for path in again for part in ("verify[", "readback[", "on_error.")))
    return tuple(
        path
        for path, record in sorted(steps.items())
        if path in again
        or path.startswith(beneath)
        or record.kind in _COMPUTED
        or (record.state is StepState.SKIPPED and record.error_code != BY_PERSON)
    )


def forgotten_from(playbook: Playbook, steps: Mapping[str, StepRecord], start: str) -> tuple[str, ...]:
    """The paths to forget so that a run goes on from `start`, one of the playbook's own steps.

    That is all that is recorded of this step and of those that follow it in the file, of what lies within them and
    of the playbook's `on_error`; what the steps before it did stays. Raises InputError for any other path, and for
    a step that the run has not come to.
    """
    own = [step.id or str(index) for index, step in enumerate(playbook.steps)]
    if start not in own:
        raise InputError(
            f"playbook {playbook.id} has no step {start!r} of its own; a run is done again from one of"
            f" {', '.join(own)}, not from within a block"
        )
    if not any(path == start or path.startswith(f"{start}.") for path in steps):
        raise InputError(f"the run has not come to step {start!r}; it cannot be done again from there")
    before = own[: own.index(start)]
    kept = tuple(f"{path}." for path in before)
    return tuple(path for path in sorted(steps) if path not in before and not path.startswith(kept))


async def repeats(store: Store, run: Run, forget: Collection[str]) -> list[str]:
    """The actions among those forgotten that took effect and would take effect once more if they were sent again.

    An action that its product recognises by its key is none, except in a sub-run: a new one has new keys. One of
    unknown outcome is none either, since it is looked up before it is sent; in a sub-run nobody would look. What
    handled a failure counts nowhere: it is done again only where something fails again.
    """
    return await _sent(store, run, forget, states=_DONE, harmless=_SAME_KEY)


async def _sent(
    store: Store,
    run: Run,
    paths: Collection[str] | None,
    *,
    states: frozenset[AttemptState],
    harmless: frozenset[Effect],
) -> list[str]:
    def meant(path: str) -> bool:
        return (paths is None or path in paths) and "on_error" not in path.split(".")

    last = {attempt.path: attempt for attempt in await store.attempts(run.id)}
    found = [
        path
        for path, attempt in sorted(last.items())
        if meant(path) and attempt.state in states and attempt.request.effect not in harmless
    ]
    for path, record in sorted((await store.steps(run.id)).items()):
        if record.kind != "call" or not meant(path):
            continue
        children = [child for child in await store.runs(parent=(run.id, path)) if child.kind is RunKind.CALL]
        for child in children[:1]:  # the newest: whoever began it anew has answered for those before it
            inner = await _sent(store, child, None, states=_MAYBE_DONE, harmless=_NEW_KEY)
            found += [f"{path}: {each} of {child.id}" for each in inner]
    return found
