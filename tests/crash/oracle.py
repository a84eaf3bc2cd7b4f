"""What the store says against what the lab says: the lab did what was done, and nobody can talk it out of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypedDict

from soar.journal.archive import PAYLOAD_ARCHIVED, ArchiveFolder
from soar.journal.leaf import parse_leaf
from soar.journal.verify import StoredEntry
from soar.model.action import ActionRequest, Attempt, AttemptState, Effect
from soar.model.alert import Record
from soar.model.entry import EntryType
from soar.model.run import Run, RunState, StepRecord, StepState
from soar.store.port import Store

_SENT = MappingProxyType(
    {
        "create_ticket": ("desk", "title"),
        "trigger_page": ("chat", "summary"),
        "send_message": ("chat", "text"),
        "block_ip": ("firewall", "ip"),
    }
)
"""The lab's system that an action goes to, and the value by which its requests are known."""
_TURNED_AWAY = frozenset({"rate_limited", "error", "drop_before"})
"""Faults of the lab that make a request nothing."""

_LETTING_GO = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.DENIED, RunState.CANCELLED})
"""States in which a run may leave the store: nobody is to say anything about it any more."""


class Found(TypedDict):
    """What a case came to."""

    runs: list[list[str]]  # each with playbook, kind and state
    effects: list[str]  # what changed in the lab, without the case's own name
    lost: int  # actions that succeeded, and that the lab did not do
    duplicates: int  # effects beyond the first
    wrong: list[str]  # in words
    ambiguous: int  # actions whose outcome a person must say
    denied: int  # actions of which a person said that they did not happen
    actions: dict[str, int]  # how many were sent, by effect


def calls_of(request: ActionRequest, sent: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The requests that a changing action made."""
    if request.verb in _SENT:
        system, name = _SENT[request.verb]
        return [
            line
            for line in sent
            if line["system"] == system and line["method"] == "POST" and line["body"].get(name) == request.params[name]
        ]
    verb, host = request.verb.partition("_")[0], request.params.get("host")
    return [line for line in sent if line["path"] == f"/hosts/{host}/{verb}"]


async def found(
    store: Store,
    archive: ArchiveFolder,
    journal: Sequence[StoredEntry],
    records: Sequence[Record],
    sent: Sequence[Mapping[str, Any]],
    tag: str,
) -> Found:
    """Hold a store at rest against the lab's log; raises AssertionError where the store contradicts itself.

    `journal` is its journal with what the archive holds of it: that tells of runs that the store let go.
    """
    await _every_record_has_one_outcome(store, records)
    _told_before_named(journal)
    await _kept_once(store, archive)
    counts = (await store.counts()).runs
    assert not counts.get(RunState.RUNNING), counts
    assert not counts.get(RunState.READY), counts
    consumed = Counter([row.id async for row in store.entries() if row.type == "approval.consumed"])
    assert set(consumed.values()) <= {1}
    runs = await store.runs(limit=1000)
    total = Found(runs=[], effects=[], lost=0, duplicates=0, wrong=[], ambiguous=0, denied=0, actions={})
    explained: list[int] = []
    for run in runs:
        total["runs"].append([run.playbook_id, run.kind.value, run.state.value])
        steps, attempts = await store.steps(run.id), await store.attempts(run.id)
        for path in dict.fromkeys(attempt.path for attempt in attempts):
            tries = [attempt for attempt in attempts if attempt.path == path]
            explained += _judge(run, steps.get(path), tries, sent, total)
    explained += _judge_forgotten(journal, {run.id for run in runs}, sent, total)
    unasked = [line for number, line in enumerate(sent) if line["applied"] and number not in explained]
    total["wrong"] += [f"the lab did what nobody intended: {line}" for line in unasked]
    total["runs"].sort()
    total["effects"] = sorted(_what(line, tag) for line in sent if line["applied"])
    return total


async def _every_record_has_one_outcome(store: Store, records: Sequence[Record]) -> None:
    outcomes = Counter(row.coordinates for row in await store.alerts(limit=10_000))
    outcomes.update(letter.record.coordinates for letter in await store.dead_letters(limit=10_000))
    assert set(outcomes.values()) <= {1}, outcomes
    missing = {record.coordinates for record in records} - outcomes.keys()
    assert not missing, f"lost: {missing}"


def _told_before_named(journal: Sequence[StoredEntry]) -> None:
    """The journal tells of a playbook before a run of it, and of a revision before a decision by it."""
    playbooks, revisions = set[str](), set[str]()
    for entry in journal:
        fields = parse_leaf(entry.leaf)
        match fields["type"]:
            case EntryType.PLAYBOOKS_LOADED:
                playbooks |= set(json.loads(entry.payload or b"")["playbooks"].values())
            case EntryType.POLICY_LOADED:
                revisions.add(fields["subject"])
            case EntryType.RUN_CREATED:
                assert fields["data"]["playbook_digest"] in playbooks, f"nobody told of its playbook: {fields}"
            case EntryType.POLICY_DECIDED:
                assert fields["data"]["revision"] in revisions, f"nobody told of its revision: {fields}"


async def _kept_once(store: Store, archive: ArchiveFolder) -> None:
    """Every payload is in the store or in one file of the archive that counts; an erased one is nowhere."""
    rows = [row async for row in store.entries()]
    counting = archive.knowing(await store.leaves(PAYLOAD_ARCHIVED))
    kept = Counter(each.id for file in counting.files for each in counting.read(file))
    kept.update(row.id for row in rows if row.payload is not None)
    erased = {parse_leaf(row.leaf)["subject"] for row in rows if row.type == EntryType.PAYLOAD_ERASED}
    meant = {row.id for row in rows if "payload" in parse_leaf(row.leaf)} - erased
    assert kept == Counter(meant), f"kept not once: {kept - Counter(meant)}, {Counter(meant) - kept}"


@dataclass
class _Forgotten:
    """A run that the store let go, as the journal tells of it."""

    playbook: str
    kind: str
    state: str = ""
    requests: dict[str, ActionRequest] = field(default_factory=dict)  # the last of each step
    outcomes: dict[str, AttemptState] = field(default_factory=dict)


def _judge_forgotten(
    journal: Sequence[StoredEntry], kept: Collection[str], sent: Sequence[Mapping[str, Any]], total: Found
) -> list[int]:
    """The runs that the store let go, of which only the journal tells; returns the lab's lines that they explain."""
    runs: dict[str, _Forgotten] = {}
    for entry in journal:
        fields = parse_leaf(entry.leaf)
        name, path, data = fields.get("run"), fields["subject"], fields["data"]
        if name is None or name in kept:
            continue
        match fields["type"]:
            case EntryType.RUN_CREATED:
                runs[name] = _Forgotten(data["playbook"], data["kind"])
            case EntryType.RUN_FINISHED:
                runs[name].state = data["state"]
            case EntryType.ACTION_INTENT:
                runs[name].requests[path] = ActionRequest.model_validate(json.loads(entry.payload or b"")["request"])
                runs[name].outcomes[path] = AttemptState.INTENDED
            case EntryType.ACTION_OUTCOME:
                runs[name].outcomes[path] = AttemptState(data["state"])
    explained: list[int] = []
    for run in runs.values():
        assert run.state in _LETTING_GO, f"{run.playbook} was let go before it had ended"
        total["runs"].append([run.playbook, run.kind, run.state])
        for path, request in run.requests.items():
            state = run.outcomes[path]
            about = f"{run.playbook} {path} {request.action} {state.value}, forgotten"
            assert state in {AttemptState.SUCCEEDED, AttemptState.FAILED}, f"nobody can ever say: {about}"
            explained += _hold(request, state, about, sent, total)
    return explained


def _judge(
    run: Run, step: StepRecord | None, tries: Sequence[Attempt], sent: Sequence[Mapping[str, Any]], total: Found
) -> list[int]:
    """One action with all its tries; returns the lab's lines that it explains."""
    request, last = tries[-1].request, tries[-1]
    about = f"{run.playbook_id} {last.path} {request.action} {[attempt.state.value for attempt in tries]}"
    assert last.state is not AttemptState.INTENDED, f"left open: {about}"
    unknown = last.state is AttemptState.UNKNOWN
    if unknown:
        hidden = (
            {StepState.UNKNOWN}
            if request.effect is Effect.READ
            else {StepState.UNKNOWN, StepState.DENIED, StepState.FAILED}
        )
        settled = step is not None and step.state not in hidden
        assert settled or run.state is RunState.NEEDS_REVIEW, f"nobody is asked: {about}, {run.state}"
    if request.effect is not Effect.READ:
        total["ambiguous"] += unknown
        total["denied"] += last.error_code == "did_not_happen"
    return _hold(request, last.state, about, sent, total)


def _hold(
    request: ActionRequest, state: AttemptState, about: str, sent: Sequence[Mapping[str, Any]], total: Found
) -> list[int]:
    """An action and its outcome against what the lab did; returns the lab's lines that it explains."""
    if request.effect is Effect.READ:
        return []
    total["actions"][request.effect.value] = total["actions"].get(request.effect.value, 0) + 1
    calls = calls_of(request, sent)
    applied = sum(1 for line in calls if line["applied"])
    if state is AttemptState.SUCCEEDED and not applied and not _same_state(request, calls):
        total["lost"] += 1
        total["wrong"].append(f"the lab did not do what succeeded: {about}, {calls}")
    if state is AttemptState.FAILED and applied:
        total["wrong"].append(f"the lab did what failed: {about}, {calls}")
    if request.effect in {Effect.KEYED, Effect.VERIFIABLE, Effect.UNSAFE} and applied > 1:
        total["duplicates"] += applied - 1
        total["wrong"].append(f"done {applied} times: {about}, {calls}")
    if request.effect is Effect.UNSAFE:
        reached = [line for line in calls if line["fault"] not in _TURNED_AWAY]
        if len(reached) > 1:
            total["wrong"].append(f"called more than once: {about}, {calls}")
    return [number for number, line in enumerate(sent) if any(line is each for each in calls)]


def _same_state(request: ActionRequest, calls: Sequence[Mapping[str, Any]]) -> bool:
    """An idempotent call that found the state that it wanted changed nothing."""
    return request.effect is Effect.IDEMPOTENT and any(line["status"] == 200 for line in calls)


def _what(line: Mapping[str, Any], tag: str) -> str:
    return f"{line['system']}{line['path']}".replace(tag, "*")


def differences(found: Found, without_death: Found) -> list[str]:
    """How a case came to something else than it does without dying, but for what a person must say."""
    said = f"{found['runs']} {found['effects']}, without a death {without_death['runs']} {without_death['effects']}"
    ours, theirs = Counter(found["effects"]), Counter(without_death["effects"])
    if ours - theirs:
        return [f"more effects: {said}"]
    if found["runs"] == without_death["runs"]:
        doubtful = found["denied"] + found["ambiguous"]
        return [f"effects are missing: {said}"] if (theirs - ours).total() > doubtful else []
    others = Counter(map(tuple, found["runs"])) - Counter(map(tuple, without_death["runs"]))
    if found["ambiguous"] and not {state for _, _, state in others} - {RunState.NEEDS_REVIEW}:
        return []
    return [f"other ends, and nothing that a person must say: {said}"]
