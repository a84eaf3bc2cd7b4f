"""What must be true of every seed once all is at rest: the effects, the store and the journal tell one story."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from soar.engine.audit import verify_store
from soar.journal.leaf import parse_leaf
from soar.model.action import Attempt, AttemptState, Effect
from soar.model.alert import Outcome
from soar.model.approval import Approval, ApprovalState
from soar.model.base import from_rfc3339
from soar.model.run import FINAL_STATES, Run, RunKind, RunState, StepRecord, StepState
from soar.store.port import AlertRow

from .service import ORIGIN, house
from .world import Change

if TYPE_CHECKING:
    from .simulation import Simulation

BUGS = ("error run.bug", "error recorder.bug", "error service.part_failed")
_CAME_TO_NOTHING = frozenset({RunState.FAILED, RunState.DENIED, RunState.CANCELLED})


@dataclass(frozen=True)
class Told:
    """One entry of the journal."""

    index: int
    type: str
    at: datetime
    run: str | None
    subject: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Story:
    """All that is left of a seed."""

    told: list[Told]
    runs: dict[str, Run]
    steps: dict[str, dict[str, StepRecord]]
    attempts: dict[str, list[Attempt]]
    approvals: list[Approval]
    alerts: list[AlertRow]
    dead: list[str]
    effects: list[Change]


def story_of(simulation: Simulation) -> Story:
    """What effects, store and journal tell."""
    read, store = simulation.loop.immediately, simulation.oracle

    async def entries() -> list[Told]:
        return [_told(row) async for row in store.entries()]

    runs = {run.id: run for run in read(store.runs(limit=10_000))}
    return Story(
        told=read(entries()),
        runs=runs,
        steps={run_id: read(store.steps(run_id)) for run_id in runs},
        attempts={run_id: sorted(read(store.attempts(run_id)), key=lambda a: (a.path, a.number)) for run_id in runs},
        approvals=read(store.approvals(limit=10_000)),
        alerts=read(store.alerts(limit=10_000)),
        dead=[letter.record.coordinates for letter in read(store.dead_letters(10_000))],
        effects=simulation.world.effects,
    )


def check_all(story: Story, simulation: Simulation) -> list[str]:
    """Every broken promise, in words."""
    found = [f"the log tells of a bug: {fields}" for *_, word, fields in simulation.trace.told if word in BUGS]
    checks = (_effects, _rest, _outcomes, _stops, _consents, _votes, _quorums, _undone, _locks, _waits)
    found += [words for check in checks for words in check(story)]
    return [*found, *_admitted(story, simulation), *_journal(simulation)]


def _told(row: Any) -> Told:
    leaf = parse_leaf(row.leaf)
    return Told(row.index, row.type, from_rfc3339(leaf["at"]), row.run_id, leaf["subject"], leaf["data"])


def _admitted(story: Story, simulation: Simulation) -> Iterator[str]:
    """No record is lost, and each has one outcome, however often it came."""
    found = Counter([row.coordinates for row in story.alerts] + story.dead)
    for record in (record for delivery in simulation.plan.deliveries for record in delivery.records):
        name = record.coordinates
        known = "acknowledged" if name in simulation.admitted else "delivered"
        if found[name] != 1:
            yield f"record {name} was {known} and has {found[name]} outcomes"
    same: dict[Any, list[AlertRow]] = defaultdict(list)
    contents = {record.coordinates: record.value for d in simulation.plan.deliveries for record in d.records}
    for row in story.alerts:
        same[contents[row.coordinates]].append(row)
    for rows in same.values():
        first = [row for row in rows if row.outcome is not Outcome.DUPLICATE]
        if len(first) != 1:
            yield f"{len(first)} of {len(rows)} alerts of one content count as the first: {rows[0].title}"
    for row in story.alerts:
        for match in row.matches:
            if match.outcome is Outcome.MATCHED and match.run_id not in story.runs:
                yield f"alert {row.id} matched {match.playbook_id}, and its run {match.run_id} does not exist"
    if not simulation.plan.turned_back:
        yield from _windows(story, contents)


def _windows(story: Story, contents: dict[str, bytes]) -> Iterator[str]:
    """One run for each window of a playbook that asks for it."""
    coordinates = {row.id: row.coordinates for row in story.alerts}
    latest: dict[str, datetime] = {}
    for run in sorted(story.runs.values(), key=lambda run: run.created_at):
        dedupe = house().library.playbooks[run.playbook_id].dedupe
        if run.kind is not RunKind.ALERT or dedupe is None:
            continue
        key = f"{run.playbook_id} {json.loads(contents[coordinates[run.alert_id or '']])['shared']}"
        if key in latest and run.created_at < latest[key] + dedupe.within:
            yield f"{run.id} began at {run.created_at}, in the window of {key} that began at {latest[key]}"
        latest[key] = run.created_at


def _effects(story: Story) -> Iterator[str]:
    """What is done once is done once, and all that was done stands in the journal."""
    done: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for effect in story.effects:
        done[effect.run_id, effect.path].append(effect)
    yield from _said(story, set(done))
    for (run_id, path), effects in done.items():
        tries = [each for each in story.attempts.get(run_id, []) if each.path == path]
        if not tries:
            yield f"{effects[0].verb} was done for {path} of {run_id}, and the journal knows no intent"
            continue
        nature = tries[-1].request.effect
        if effects[0].name == "forbidden":
            yield f"{path} of {run_id} was done, and policy forbids it"
        if nature is not Effect.IDEMPOTENT and len(effects) > 1:
            yield f"{nature} {effects[0].verb} of {path} in {run_id} was done {len(effects)} times"
        if len({effect.key for effect in effects}) > 1:
            yield f"{effects[0].verb} of {path} in {run_id} went out under several keys"
        if not any(each.state in {AttemptState.SUCCEEDED, AttemptState.UNKNOWN} for each in tries):
            yield f"{effects[0].verb} of {path} in {run_id} was done, and stands {[t.state.value for t in tries]}"


def _said(story: Story, done: set[tuple[str, str]]) -> Iterator[str]:
    """What the journal says was done was done."""
    for run_id, attempts in story.attempts.items():
        for each in attempts:
            looked = each.request.effect is Effect.READ or "readback" in each.path
            if each.state is AttemptState.SUCCEEDED and not looked and (run_id, each.path) not in done:
                yield f"{each.request.verb} of {each.path} in {run_id} stands succeeded, and was never done"


def _rest(story: Story) -> Iterator[str]:
    """All runs rest, and nothing that was sent is left without a word."""
    for run in story.runs.values():
        if not run.final:
            yield f"run {run.id} of {run.playbook_id} is {run.state} at the end"
        if run.owner is not None or run.lease_until is not None:
            yield f"run {run.id} has ended and {run.owner} still holds it"
        for each in story.attempts[run.id]:
            if each.state is AttemptState.INTENDED:
                yield f"{each.path} of {run.id} has ended as intended: its outcome is not recorded"
        yield from _doubts(run, story)
        for path, step in story.steps[run.id].items():
            if run.state is RunState.SUCCEEDED and step.state in {StepState.WAITING, StepState.UNKNOWN}:
                yield f"run {run.id} succeeded, and its step {path} is {step.state}"
    for approval in story.approvals:
        if approval.state in {ApprovalState.PENDING, ApprovalState.GRANTED}:
            yield f"approval {approval.id} is {approval.state} at the end"


def _doubts(run: Run, story: Story) -> Iterator[str]:
    """A run does not end with an action in doubt, unless a person ended it or passed the step over."""
    last = {each.path: each for each in story.attempts[run.id]}
    for path, each in last.items():
        step = story.steps[run.id].get(path)
        passed = run.state is RunState.CANCELLED or (step is not None and step.state is StepState.SKIPPED)
        if each.state is AttemptState.UNKNOWN and each.request.effect is not Effect.READ and not passed:
            yield f"{run.id} ended {run.state}, and what its {path} did is unknown"


def _outcomes(story: Story) -> Iterator[str]:
    """Each intent has its attempt, and each outcome follows its intent; nothing ends twice in one state."""
    intents: Counter[tuple[str | None, str, int]] = Counter()
    for each in story.told:
        name = (each.run, each.subject, each.data.get("attempt", 0))
        if each.type == "action.intent":
            intents[name] += 1
            if intents[name] > 1:
                yield f"two intents {name}"
        elif each.type == "action.outcome" and not intents[name]:
            yield f"an outcome before its intent: {name}"
    recorded = {(run, a.path, a.number) for run, attempts in story.attempts.items() for a in attempts}
    for name in sorted(set(intents) ^ recorded, key=str):
        yield f"intent {name} stands only in {'the journal' if name in intents else 'the store'}"


def _stops(story: Story) -> Iterator[str]:
    """While the switch is set, the run held or cancelled, nothing is intended."""
    halted, held = False, set[str]()
    for each in story.told:
        match each.type:
            case "halt.set" | "halt.cleared":
                halted = each.type == "halt.set"
            case "run.paused" | "run.cancel_requested":
                held.add(each.subject)
            case "run.resumed" | "run.retried":
                held.discard(each.subject)
            case "action.intent" if halted:
                yield f"{each.subject} of {each.run} was intended while halted (entry {each.index})"
            case "action.intent" if each.run in held:
                yield f"{each.subject} of {each.run} was intended while the run was held (entry {each.index})"


def _consents(story: Story) -> Iterator[str]:
    """A consent is used once, after it was given and in its time, by the action that people saw."""
    approvals = {approval.id: approval for approval in story.approvals}
    granted, consumed = dict[str, int](), dict[str, int]()
    latest: dict[tuple[str | None, str], Approval] = {}
    for each in story.told:
        if each.type == "approval.closed" and each.data["state"] == "granted":
            granted[each.subject] = each.index
        elif each.type == "approval.consumed":
            approval = approvals[each.subject]
            if each.subject in consumed:
                yield f"approval {each.subject} was used twice"
            if each.subject not in granted:
                yield f"approval {each.subject} was used and never granted"
            if approval.state is not ApprovalState.CONSUMED:
                yield f"approval {each.subject} was used and is {approval.state}"
            consumed[each.subject] = each.index
            latest[approval.run_id, approval.path] = approval
        elif each.type == "action.intent" and each.data["action"] == "sim.wipe":
            approval = latest.get((each.run, each.subject))
            if approval is None:
                yield f"{each.subject} of {each.run} was intended without a consent"
            elif approval.execute_by is None or each.at >= approval.execute_by:
                yield f"{each.subject} of {each.run} was intended at {each.at}, its consent ended {approval.execute_by}"


def _votes(story: Story) -> Iterator[str]:
    """What counts was said in time, about these bytes, by somebody who may, once."""
    for approval in story.approvals:
        for vote in approval.votes:
            if vote.at >= approval.decide_by:
                yield f"{vote.approver}'s vote of {vote.at} on {approval.id} counts, which ended {approval.decide_by}"
            if vote.digest != approval.digest:
                yield f"{vote.approver}'s vote on {approval.id} is about other bytes"
            if vote.approver in approval.requirement.exclude:
                yield f"{vote.approver} may not decide on {approval.id}"
        if len({vote.approver for vote in approval.votes}) < len(approval.votes):
            yield f"somebody counts twice in {approval.id}"


def _quorums(story: Story) -> Iterator[str]:
    """Who is said to have agreed has, and no word was lost."""
    told = Counter(each.subject for each in story.told if each.type == "approval.voted")
    for approval in story.approvals:
        agreed = approval.state in {ApprovalState.GRANTED, ApprovalState.CONSUMED}
        granters = {vote.approver for vote in approval.votes if vote.decision == "grant"}
        if agreed and len(granters) < sum(quorum.min for quorum in approval.requirement.groups):
            yield f"approval {approval.id} was granted by {', '.join(sorted(granters))} alone"
        if told[approval.id] != len(approval.votes):
            yield f"approval {approval.id} has {len(approval.votes)} votes, {told[approval.id]} were told"


def _undone(story: Story) -> Iterator[str]:
    """What was done is taken back once."""
    retried = {each.subject for each in story.told if each.type == "run.retried"}
    undone: Counter[tuple[str | None, str | None]] = Counter()
    for run in story.runs.values():
        if run.kind is RunKind.UNDO and run.state not in _CAME_TO_NOTHING:
            undone[run.parent_run_id, run.parent_path] += 1
    for (run_id, path), times in undone.items():
        if times > 1 and run_id not in retried:
            yield f"{path} of {run_id} is taken back {times} times"


def _locks(story: Story) -> Iterator[str]:
    """From its first intent to its end, no other run of the same lock intends anything."""
    holder: dict[str, str] = {}
    finals = {state.value for state in FINAL_STATES}
    for each in story.told:
        run = story.runs.get(each.run or "")
        if run is None or run.lock_key is None:
            continue
        if each.type == "action.intent":
            other = holder.setdefault(run.lock_key, run.id)
            if other != run.id:
                yield f"{each.subject} of {run.id} was intended while {other} held their lock"
        elif each.type == "run.finished" and each.data["state"] in finals and holder.get(run.lock_key) == run.id:
            del holder[run.lock_key]


def _waits(story: Story) -> Iterator[str]:
    """No timer ends early."""
    for run_id, steps in story.steps.items():
        for path, step in steps.items():
            if step.kind != "wait" or step.data.get("phase") != "time" or step.state is not StepState.SUCCEEDED:
                continue
            if step.finished_at is None or step.finished_at < from_rfc3339(step.data["until"]):
                yield f"{path} of {run_id} waited until {step.data['until']} and ended {step.finished_at}"


def _journal(simulation: Simulation) -> Iterator[str]:
    read, store = simulation.loop.immediately, simulation.oracle
    size, _ = read(store.tree())
    report = read(verify_store(store, verifier=house().signer.verifier, origin=ORIGIN))
    if not report.ok:
        yield "the journal does not verify: " + "; ".join(str(problem) for problem in report.problems)
    if report.entries != size or report.size != size:
        yield f"the journal has {report.entries} entries, its tree {size} leaves"
