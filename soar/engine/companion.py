"""A run at another's side that does one action for it: taking something back, telling somebody."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from soar.engine.scribe import Scribe
from soar.model.playbook import ActionStep, Playbook
from soar.model.run import Run, RunKind, RunState


def companion(run: Run, *, scribe: Scribe, kind: RunKind, path: str, values: dict[str, Any]) -> Run:
    """A run that goes with `run` because of what was done at `path`; its values travel in `vars`."""
    return Run(
        id=scribe.ids.new("run"),
        kind=kind,
        state=RunState.READY,
        playbook_id=run.playbook_id,
        playbook_digest=run.playbook_digest,
        alert_id=run.alert_id,
        parent_run_id=run.id,
        parent_path=path,
        vars=values,
        priority=run.priority,
        depth=run.depth,
        created_at=scribe.clock.now(),
    )


def one_action(playbook: Playbook, *, step_id: str, use: str, values: str, names: Iterable[str]) -> Playbook:
    """What it interprets. The params are looked up under `values` by name, so that none is ever rendered again."""
    params = {name: f"${{{{ {values}.{json.dumps(name)} }}}}" for name in names}
    step = ActionStep.model_validate({"id": step_id, "use": use, "with": params})
    return playbook.model_copy(update={"steps": (step,), "on_error": (), "outputs": {}})
