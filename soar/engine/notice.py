"""Telling a group what policy wants it to know: a run of its own, which nothing waits for."""

from __future__ import annotations

from soar.engine.admission import run_created
from soar.engine.companion import companion, one_action
from soar.engine.context import RunContext
from soar.model.action import ActionRequest
from soar.model.alert import Severity
from soar.model.decision import Decision, NotifyObligation, Verdict
from soar.model.playbook import Playbook
from soar.model.run import Run, RunKind
from soar.store.port import Fact, InsertRun

USE = "notify.send"
_NOTHING = Fact()


def notices(context: RunContext, request: ActionRequest, decision: Decision) -> Fact:
    """The runs that tell of this decision, as part of the fact that carries it out.

    Once for each action, however often it is tried. What becomes of a notice its own run says; a notice gives rise to
    no further one.
    """
    if not decision.obligations or context.run.kind is RunKind.NOTICE or context.attempts.get(request.path):
        return _NOTHING
    runs = [_run(context, request, decision, o) for o in decision.obligations if isinstance(o, NotifyObligation)]
    return Fact(
        writes=tuple(InsertRun(run=run) for run in runs),
        entries=tuple(run_created(context.scribe, run) for run in runs),
    )


def _run(context: RunContext, request: ActionRequest, decision: Decision, obligation: NotifyObligation) -> Run:
    whom = ", ".join(f"{target.type} {target.id}" for target in request.targets)
    what = f"{request.action}{f' on {whom}' if whom else ''}"
    denied = decision.effect is Verdict.DENY
    why = "; ".join(reason.msg for reason in decision.reasons)
    text = f"{obligation.msg}: {what} is {f'denied: {why}' if denied else 'about to be done'} (run {context.run.id})"
    severity = context.alert["severity"] if context.alert else Severity.INFORMATIONAL.value
    values = {"channel": obligation.group, "text": text, "severity": severity}
    return companion(context.run, scribe=context.scribe, kind=RunKind.NOTICE, path=request.path, values=values)


def notice_playbook(run: Run, playbook: Playbook) -> Playbook:
    """What a notice interprets."""
    return one_action(playbook, step_id="tell", use=USE, values="vars", names=run.vars)
