"""Scenarios that together pass every write point of soar."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from soar.cli import erase
from soar.engine.control import HALT
from soar.engine.promotion import promote, promoted
from soar.engine.suppressing import Suppressor
from soar.errors import NotAllowedError, NotFoundError, StoreUnavailableError
from soar.journal.archive import PAYLOAD_ARCHIVED
from soar.journal.leaf import parse_leaf
from soar.model.action import AttemptState
from soar.model.playbook import Trigger
from soar.model.run import Run, RunState
from soar.policy.bundle import load_bundle
from soar.service.storage import archive_of

from .life import Life, Scenario

LIMITED = {"limited": {"use": "lab_chat", "limits": {"concurrency": 1}}}
"""An instance beside those of the home."""

POLICY = """
package soar.main

default effect := "allow"

effect := "deny" if input.playbook.id == "refused"

effect := "require_approval" if {
    input.playbook.id in {"main", "people"}
    input.action.risk == "contain"
}

default obligations := []

obligations := [{"type": "rate", "key": "tickets", "limit": 1, "window": "1m"}] if input.playbook.id == "rated"

obligations := [{"type": "approval", "groups": [{"group": "soc-lead"}], "ttl": "10m", "execution_ttl": ttl}] if {
    effect == "require_approval"
    not more
}

obligations := [{"type": "approval", "groups": [{"group": "soc-lead"}, {"group": "ir-manager"}]}] if {
    effect == "require_approval"
    more
}

# What people were asked for is no longer enough when it comes to sending.
more if {
    input.action.id == "again"
    input.phase == "execute"
}

default ttl := "1h"

# Over before anybody can come to send it.
ttl := "1ms" if input.action.id == "void"

decision := {
    "schema": "soar.decision/v1",
    "effect": effect,
    "reasons": [],
    "warnings": [],
    "obligations": obligations,
    "controls_evaluated": ["test"],
}
"""


PEOPLE = """
package soar.people

default refused := false

refused if input.person.name == "mallory"

refused if {
    input.subject.playbook == "unwelcome"
    input.deed == "approve"
}

decision := {"schema": "soar.permission/v1", "allow": refused == false, "reasons": []}
"""


def whole(name: str, text: str) -> str:
    """A playbook's file; it starts with every alert whose rule is its name, unless its text begins with +."""
    trigger = "" if text.startswith("+") else f"on: {{match: {{rule.name: {name}}}}}\n"
    return f"playbook: {name}\ndescription: A test's.\nowner: soc\n{trigger}{text.removeprefix('+')}"


def ticket(name: str, **more: str) -> str:
    """A keyed step."""
    extra = "".join(f", {key}: {value}" for key, value in more.items())
    given = "" if " " in name else f"id: {name}, "
    return f'{{{given}use: ticket.create, with: {{title: "${{{{ alert.title }}}} {name}"}}{extra}}}'


def cut(name: str, **more: str) -> str:
    """A step that may be repeated, and that people are asked about."""
    extra = "".join(f", {key}: {value}" for key, value in more.items())
    return f'{{id: {name}, use: host.isolate, with: {{host: "${{{{ alert.raw.host }}}}-{name}"}}{extra}}}'


def paged(name: str) -> str:
    """A keyed step at an instance that takes one call at a time, see `LIMITED`."""
    return (
        f'{{id: {name}, use: limited.trigger_page, with: {{summary: "${{{{ alert.title }}}} {name}", severity: high}}}}'
    )


def steps(*each: str, rest: str = "") -> str:
    """The text of a playbook."""
    return "steps:\n" + "".join(f"  - {step}\n" for step in each) + rest


BLOCK = '{id: block, use: ip.block, with: {ip: "${{ alert.raw.address }}"}}'
SAY = '{id: say, use: notify.send, with: {channel: soc, text: "${{ alert.title }} say"}}'
PAGE = '{id: page, use: page.trigger, with: {summary: "${{ alert.title }} page", severity: high}}'
LEADS = "groups: [{group: soc-lead}]"
TIMED = "{id: it, timeout: 1h, on_error: continue, if: alert.title, "
NEVER = "wait: {until: alert.raw.when}"  # fails: alerts say `when: nonsense`

MAIN = f"""
vars: {{seen: 0}}
steps:
  - {ticket("ticket")}
  - parallel:
      - {cut("isolate", undo="{use: host.release, after: 7d}")}
      - {SAY}
      - {BLOCK}
  - {{set: {{seen: 1}}}}
  - wait: 1m
  - {{id: page, use: page.trigger, with: {{summary: "${{{{ alert.title }}}} page", severity: high}}, if: vars.seen == `1`}}
"""  # noqa: E501 - one step a line


CHANGED = {"changed": steps(PAGE), "added": steps(SAY)}
"""What comes into the playbooks' folder, in this order."""
RULES = "policies/main.rego"
SIGNALLED = POLICY + '\neffect := "deny" if input.playbook.id == "ruled"\n'
WANTED = POLICY + '\neffect := "require_approval" if input.playbook.id == "ruled"\n'
CANDIDATE = SIGNALLED + "\n# Never in force.\n"
PASSES = "package soar.main_test\n\ntest_it_decides if data.soar.main.decision.schema\n"
DAYS = 30
MONTH = timedelta(days=DAYS + 1)
SOMEBODY = "merry@example.com"


async def _grant(life: Life) -> bool:
    for approval in await life.pending():
        await life.vote(approval)
        return True
    return False


async def _people(life: Life) -> bool:
    """Deny one, say nothing to one, agree twice to one, and once to one that then comes too late."""
    for approval in await life.pending():
        if approval.path == "denied":
            await life.vote(approval, decision="deny")
        elif approval.path == "again":
            voted = {vote.approver for vote in approval.votes}
            groups = {quorum.group for quorum in approval.requirement.groups}
            both = "ir-manager" in groups and "alice" in voted
            await life.vote(approval, "bob" if both else "alice")
        elif approval.path == "void":
            await life.vote(approval)
        else:
            continue
        return True
    return False


async def _halted(life: Life) -> bool:
    told, run = await life.told(), await life.run_of("halted")
    if "halt.set" not in told:
        await life.control().halt(reason="a test")
        return True
    step = await life.step(run, "ticket")
    if await life.inner.control(HALT) is not None and step is not None and step.data.get("phase") == "halted":
        await life.control().resume(reason="a test")
        return True
    return False


async def _undecided(life: Life) -> bool:
    if life.undecided:
        await life.restart()
        return True
    return False


async def _look(life: Life, run: Run) -> None:
    """A person looks at the lab and says what became of what is not known."""
    unknown = [attempt for attempt in await life.inner.attempts(run.id) if attempt.state is AttemptState.UNKNOWN]
    happened = any(life.happened(attempt.request) for attempt in unknown)
    await life.control().resolve(run.id, happened=happened, reason="looked")


async def _reviewed(life: Life) -> bool:
    """A person looks at the lab and says what became of it; what did not happen is done again."""
    for name in ("said", "gone"):
        run = await life.run_of(name)
        if run.state is RunState.NEEDS_REVIEW:
            await _look(life, run)
            return True
        if run.state is RunState.FAILED:
            await life.control().retry(run.id, reason="it did not happen")
            return True
    return False


async def _asked(life: Life) -> bool:
    for approval in await life.pending():
        if approval.path == "first":
            await life.vote(approval, answer="yes")
            return True
    return False


async def _alerted(life: Life) -> bool:
    run = await life.run_of("alerted")
    if run.state is RunState.WAITING:
        return await life.deliver(100, rule="other", host=f"{life.case.tag}-0")
    return False


async def _steered(life: Life) -> bool:  # noqa: PLR0911 - one person after the other
    control = life.control()
    run = await life.run_of("cancelled")
    if run.state is RunState.WAITING and not run.cancel_requested:
        await control.cancel(run.id, reason="a test")
        return True
    run = await life.run_of("skipped")
    if run.state is RunState.WAITING:
        await control.skip(run.id, "hold", reason="a test")
        return True
    run = await life.run_of("held")
    if run.paused:
        await control.release(run.id, reason="a test")
        return True
    if run.state is RunState.WAITING and "run.paused" not in await life.told():
        await control.pause(run.id, reason="a test")
        return True
    run = await life.run_of("redone")
    if run.state is RunState.FAILED:
        await control.retry(run.id, reason="a test", start="page")
        return True
    run = await life.run_of("taken")
    if run.state is RunState.SUCCEEDED and not await life.inner.runs(parent=(run.id, "isolate")):
        await control.undo(run.id)
        return True
    return False


async def _escalated(life: Life) -> bool:
    for approval in await life.pending():
        if "approval.escalated" in await life.told():
            await life.vote(approval, "bob")
            return True
    return False


async def _held(life: Life) -> bool:
    """Nobody looks at the lab before the step that waits for it is out of time."""
    run = next(iter(await life.inner.runs(playbook_id="doubtful")), None)
    if run is None or run.state is not RunState.NEEDS_REVIEW or not run.paused:
        return False
    await _look(life, run)
    return True


async def _quieted(life: Life) -> bool:
    """Hold alerts back, let one come, end it."""
    told, now = await life.told(), life.clock.now()
    suppressor = _suppressor(life, "alice")
    if "suppression.added" not in told:
        trigger = Trigger.model_validate({"match": {"rule.name": {"any_of": ["quieted"]}}})
        await suppressor.add(trigger, playbooks=(), since=now, until=now + timedelta(hours=1), reason="a test")
        return True
    if await life.deliver(100, rule="quieted"):
        return True
    if "suppression.ended" not in told:
        (one,) = await life.inner.suppressions()
        await suppressor.end(one.id, reason="a test")
        return True
    return False


def _suppressor(life: Life, person: str) -> Suppressor:
    return Suppressor(store=life.store, scribe=life.service.scribe, person=person, authority=life.service.authority)


async def _unwelcome(life: Life) -> bool:
    """One deed after the other that policy does not let them do."""
    refused = {
        parse_leaf(row.leaf)["data"]["deed"] async for row in life.inner.entries() if row.type == "person.refused"
    }
    run, now = await life.run_of("unwelcome"), life.clock.now()
    control, suppressor = life.service.control("mallory"), _suppressor(life, "mallory")
    trigger, why, until = Trigger(where="alert.title == 'none'"), "a test", now + timedelta(hours=1)
    if not await life.inner.suppressions():
        await _suppressor(life, "alice").add(trigger, playbooks=(), since=now, until=until, reason=why)
        return True
    (held_back,) = await life.inner.suppressions()
    deeds: dict[str, Callable[[], Awaitable[object]]] = {
        "suppress": lambda: suppressor.add(trigger, playbooks=(), since=now, until=until, reason=why),
        "unsuppress": lambda: suppressor.end(held_back.id, reason=why),
        "cancel": lambda: control.cancel(run.id, reason=why),
        "pause": lambda: control.pause(run.id, reason=why),
        "release": lambda: control.release(run.id, reason=why),
        "retry": lambda: control.retry(run.id, reason=why),
        "skip": lambda: control.skip(run.id, "cut", reason=why),
        "resolve": lambda: control.resolve(run.id, happened=True, reason=why),
        "undo": lambda: control.undo(run.id),
        "halt": lambda: control.halt(reason=why),
        "resume": lambda: control.resume(reason=why),
    }
    for approval in await life.pending():
        deeds["approve"] = partial(life.vote, approval)
    for deed, do in deeds.items():
        if deed not in refused:
            with contextlib.suppress(NotAllowedError):
                await do()
            return True
    return False


async def _reloaded(life: Life) -> bool:
    """Put another playbook in the place of one that has a run under way, then one that is new; alerts start each."""
    for number, (name, text) in enumerate(CHANGED.items()):
        path, text = f"playbooks/{name}.yaml", whole(name, text)
        if not (life.case.home / path).exists() or (life.case.home / path).read_text() != text:
            life.write(path, text)
            if not life.service.loaded.settings.watch_playbooks:
                life.running.reloader.ask()
            await life.until(partial(_in_force, life, name, text))
            return True
        if await life.deliver(100 + number, rule=name):
            return True
    return False


async def _in_force(life: Life, name: str, text: str) -> bool:
    library = life.service.library
    return name in library.playbooks and library.text_of(library.playbooks[name].digest) == text


async def _ruled(life: Life) -> bool:
    """Let a revision come by a signal, and another by a promotion; an alert asks each."""
    await life.until(partial(_compared, life))
    if await life.busy() or await _grant(life):
        return True
    held = (life.case.home / RULES).read_text()
    if held == POLICY:
        await _signal(life)
        return True
    if held == SIGNALLED and await life.deliver(100, rule="ruled"):
        return True
    if await promoted(life.inner) is None:
        revision = _revision_of(life, WANTED)
        await promote(life.store, life.service.scribe, person="alice", revision=revision, reason="a test")
        return True
    if held == SIGNALLED:  # the one in force is another than the one that is wanted, until the folder has it
        life.write(RULES, WANTED)
        return True
    await _until_it_rules(life)
    return await life.deliver(101, rule="ruled")


async def _withdrawn(life: Life) -> bool:
    """Between two tries of an action policy forbids it; a person looks at the lab and says what became of the first."""
    if await life.busy():
        return True
    run = await life.run_of("ruled")
    if run.state is RunState.NEEDS_REVIEW:
        await _look(life, run)
        return True
    if run.state is RunState.WAITING and (life.case.home / RULES).read_text() == POLICY:
        await _signal(life)
        return True
    return False


def _revision_of(life: Life, rego: str) -> str:
    """The revision that the policies have with this text."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(life.case.home / "policies", folder, dirs_exist_ok=True)
        (Path(folder) / Path(RULES).name).write_text(rego)
        return load_bundle(Path(folder)).revision


async def _signal(life: Life) -> None:
    """Bring the other policy into force by a signal."""
    life.write(RULES, SIGNALLED)
    life.running.promotion.signal()
    await _until_it_rules(life)


async def _until_it_rules(life: Life) -> None:
    """Until the folder's policies are in force."""
    revision = load_bundle(life.case.home / "policies").revision

    async def rules() -> bool:
        return life.running.gate.revision == revision

    await life.until(rules)


async def _compared(life: Life) -> bool:
    """Whether the candidate was asked all that was decided in this life."""
    decided = 0
    async for row in life.inner.entries():
        decided = 0 if row.type == "service.started" else decided + (row.type == "policy.decided")
    assert life.running.shadow is not None
    return life.running.shadow.seen.total() >= decided


async def _aged(life: Life) -> bool:
    """Let alerts come, then a month go by: what ended leaves, and what waits goes on. Then somebody is erased."""
    if await life.busy():
        return True
    if life.clock.offset < MONTH:
        for number, fields in enumerate(_rules("short", "nothing", user=SOMEBODY) + _rules("long")):
            if await life.deliver(100 + number, **fields):
                return True
        life.clock.offset += MONTH
        await life.restart()
        return True
    if life.clock.offset < 2 * MONTH:
        await life.until(partial(_swept, life))
        if await life.deliver(110, rule="short", user=SOMEBODY):
            return True
        if not life.erased:
            await _erase(life)
            return True
    return False


async def _erase(life: Life) -> None:
    """As `soar audit erase` does, in each life until it has come to its end there."""
    erase.stored = life.lent  # type: ignore[assignment]  # does the same
    try:
        await erase._erase(SOMEBODY, "a test", "alice", None, yes=True)
    except NotFoundError:
        assert "payload.erased" in await life.told()
    except StoreUnavailableError:
        return  # who archived has not let go of the folder yet
    life.erased = True
    folder = archive_of(life.service.loaded).path
    assert not [path for path in folder.glob("*.gz") if SOMEBODY.encode() in gzip.decompress(path.read_bytes())]


async def _rotated(life: Life) -> bool:
    """Let another key follow, then let an alert come."""
    if "journal.key_rotated" not in await life.told():
        await life.running.stop()
        await life.rotate()
        await life.start()
        return True
    return await life.deliver(100, rule="rotated")


async def _swept(life: Life) -> bool:
    """Whether nothing that is old is left, and the archive lists its files."""
    before = life.clock.now() - timedelta(days=DAYS)
    old = await life.inner.old_payloads(before, after="", limit=1000)
    folder = archive_of(life.service.loaded)
    files = folder.knowing(await life.inner.leaves(PAYLOAD_ARCHIVED)).files
    sums = folder.path / "SHA256SUMS"
    listed = {line.split()[1] for line in sums.read_text().splitlines()} if sums.exists() else set()
    there = {path.name for path in folder.path.glob("*.gz")}
    ended = [run for run in await life.inner.runs() if run.finished_at is not None and run.finished_at < before]
    return not old.payloads and not ended and listed == there == {file.name for file in files}


def _rules(*names: str, **fields: Any) -> list[Mapping[str, Any]]:
    return [{"rule": name, **fields} for name in names]


SCENARIOS = (
    Scenario(name="main", playbooks={"main": MAIN}, act=_grant),
    Scenario(
        name="people",
        playbooks={"people": steps(*(cut(name, on_error="continue") for name in ("denied", "late", "again", "void")))},
        act=_people,
        store_fault="late",
    ),
    Scenario(name="halted", playbooks={"halted": steps("wait: 1m", ticket("ticket"))}, act=_halted),
    Scenario(name="undecided", playbooks={"undecided": steps(ticket("ticket"))}, act=_undecided, undecided=True),
    Scenario(
        name="tries",
        playbooks={"limited": steps(ticket("ticket")), "broken": steps(PAGE)},
        alerts=_rules("limited", "broken"),
        faults={
            "desk/tickets": {"mode": "rate_limited", "times": 1},
            "chat/pages": {"mode": "error", "status": 400},
        },
    ),
    Scenario(
        name="unanswered",
        playbooks={"unanswered": steps(ticket("ticket", retry="{attempts: 2}"))},
        faults={"desk/tickets": {"mode": "drop_after"}},
    ),
    Scenario(
        name="lost",
        playbooks={"lost": steps(SAY), "looked": steps(BLOCK)},
        alerts=_rules("lost", "looked"),
        faults={
            "chat/messages": {"mode": "drop_after", "times": 1},
            "firewall/rules": {"mode": "drop_after", "method": "POST", "times": 1},
        },
    ),
    Scenario(
        name="reviewed",
        playbooks={"said": steps(SAY), "gone": steps(BLOCK)},
        alerts=_rules("said", "gone"),
        faults={
            "chat/messages": {"mode": "drop_after", "times": 1},
            "firewall/rules": {"mode": "drop_before", "method": "POST", "times": 1},
        },
        act=_reviewed,
    ),
    Scenario(
        name="verified",
        playbooks={
            "verified": steps(cut("a", verify="{use: host.status, until: result.isolated}")),
            "unverified": steps(cut("b", verify="{use: host.status, until: result.never, within: 1m, every: 40s}")),
        },
        alerts=_rules("verified", "unverified"),
    ),
    Scenario(
        name="waits",
        playbooks={
            "alerted": steps(
                '{id: w, wait: {for_alert: {match: {"entities.hosts[].name": "${{ alert.raw.host }}"}}}, timeout: 9h}'
            ),
            "unalerted": steps("{id: w, wait: {for_alert: {match: {rule.name: nothing}}}, timeout: 1h}"),
            "nowhere": steps('{wait: {for_alert: {match: {title: "${{ alert.raw.none }}"}}}, timeout: 1h}'),
            "no-time": steps(f"{{{NEVER}}}"),
        },
        alerts=_rules("alerted", "unalerted", "nowhere", "no-time", when="nonsense"),
        act=_alerted,
    ),
    Scenario(
        name="asked",
        playbooks={
            "asked": steps(
                f"{{id: first, ask: Really?, {LEADS}}}",
                f"{{id: second, ask: Really?, {LEADS}, expires: 1h, on_error: continue}}",
                ticket("ticket"),
            )
        },
        act=_asked,
    ),
    Scenario(
        name="blocks",
        playbooks={
            "blocks": steps(
                f'{{if: "`true`", then: [{ticket("chosen")}]}}',
                f"{{foreach: alert.raw.some, do: [{ticket('round ${{ item.value }}')}]}}",
                f"{{id: bad, {NEVER}, on_error: [{ticket('mended')}]}}",
                f"{{{NEVER}}}",
                rest=f"on_error:\n  - {ticket('told')}\n",
            )
        },
        alerts=[{"some": [1, 2], "when": "nonsense"}],
    ),
    Scenario(
        name="calls",
        playbooks={
            "calls": steps(
                "{id: good, call: good}",
                "{id: bad, call: bad, on_error: continue}",
                "{id: slow, call: slow, timeout: 1h, on_error: continue}",
                ticket("ticket"),
            ),
            "good": "+" + steps(ticket("inner")),
            "bad": "+" + steps("{stop: failed}"),
            "slow": "+" + steps("wait: 5h", ticket("never")),
        },
    ),
    Scenario(
        name="deep",
        playbooks={
            "deep": steps("{id: sub, call: deep-1}"),
            **{f"deep-{n}": "+" + steps(f"{{id: sub, call: deep-{n + 1}}}") for n in range(1, 6)},
            "deep-6": "+" + steps(ticket("ticket")),
        },
    ),
    Scenario(
        name="vanished",
        playbooks={"vanished": steps("{id: sub, call: leaves}"), "leaves": "+" + steps(ticket("ticket"))},
        vanishes="leaves",
    ),
    Scenario(
        name="steered",
        playbooks={
            "cancelled": steps("{id: hold, wait: 30d}", ticket("never")),
            "skipped": steps("{id: hold, wait: 30d}", ticket("ticket")),
            "held": steps("{id: sub, call: inner-held}", ticket("ticket")),
            "inner-held": "+" + steps("wait: 1h", ticket("inner")),
            "redone": steps(ticket("ticket"), PAGE),
            "taken": steps(cut("isolate")),
        },
        alerts=_rules("cancelled", "skipped", "held", "redone", "taken"),
        faults={"chat/pages": {"mode": "error", "status": 400, "times": 1}},
        act=_steered,
    ),
    Scenario(
        name="nothing-sent",
        playbooks={
            "shadow": "mode: shadow\n" + steps(ticket("ticket")),
            "refused": steps(ticket("ticket")),
            "unfit": steps('{use: ticket.create, with: {title: "${{ alert.raw.some }}"}}'),
            "no-way-back": steps(cut("a", undo='{use: host.release, with: {host: "${{ length(alert.title.no) }}"}}')),
        },
        alerts=_rules("shadow", "refused", "unfit", "no-way-back", some=[1]),
    ),
    Scenario(
        name="intake",
        playbooks={
            "collected": "dedupe: {key: [rule.name], within: 30m, mode: collect}\n" + steps("wait: 1m", ticket("a")),
            "first": "dedupe: {key: [rule.name], within: 30m}\n" + steps(ticket("a")),
        },
        alerts=[*_rules("collected", "collected", "first", "first"), {"id": "one"}, {"id": "one"}, {"rule": "none"}],
        raw=[b"", b"\xff\xfe", b"{"],
    ),
    Scenario(
        name="one-name",
        playbooks={"one-name": steps(ticket("ticket"))},
        alerts=[{}, {"id": "another"}],
        same_ids=True,
    ),
    Scenario(name="many", playbooks={}, alerts=[{}] * 260),
    Scenario(
        name="witnessed",
        playbooks={},
        alerts=[{}] * 260,
        dies_first=("add_hashes",),
        witnessed=True,
    ),
    Scenario(
        name="died-looking",
        playbooks={"dying-look": steps(BLOCK)},
        dies_first=("MoveAttempt succeeded",),
    ),
    Scenario(
        name="died-often",
        playbooks={"dying-often": steps(ticket("ticket", retry="{attempts: 1}"))},
        dies_first=("MoveAttempt succeeded",) * 4,
    ),
    Scenario(
        name="died-reading",
        playbooks={
            "dying-read": steps(
                '{use: ticket.find, with: {query: "${{ alert.title }}"}, retry: {attempts: 1}, on_error: continue}'
            )
        },
        dies_first=("MoveAttempt succeeded",) * 4,
    ),
    Scenario(
        name="escalated",
        playbooks={
            "escalated": steps(
                cut("a", approval=f"{{{LEADS}, expires: 1h, escalate: {{after: 15m, to: ir-manager}}}}"),
            )
        },
        act=_escalated,
    ),
    Scenario(
        name="out-of-time",
        playbooks={
            "timed": steps(TIMED + f"then: [{ticket('first')}, {{wait: 5h}}, {ticket('never')}]}}", ticket("after")),
            "calling": steps(TIMED + "then: [{id: sub, call: doubtful}]}", ticket("after")),
            "doubtful": "+" + steps(SAY),
        },
        alerts=_rules("timed", "calling"),
        faults={"chat/messages": {"mode": "drop_after", "times": 1}},
        act=_held,
    ),
    Scenario(
        name="died-in-time",
        playbooks={"dying-in-time": steps(TIMED.replace("1h", "20s") + f"then: [{SAY}]}}", ticket("after"))},
        dies_first=("MoveAttempt succeeded",),
    ),
    Scenario(
        name="queued",
        playbooks={"queued": steps(f"{{parallel: [{paged('a')}, {paged('b')}]}}")},
    ),
    Scenario(name="rated", playbooks={"rated": steps(ticket("first"), ticket("second"))}),
    Scenario(
        name="unwelcome",
        playbooks={"unwelcome": steps(cut("cut", on_error="continue", approval=f"{{{LEADS}, expires: 1h}}"))},
        act=_unwelcome,
    ),
    Scenario(
        name="reloaded",
        playbooks={"changed": steps("wait: 1m", ticket("ticket"))},
        alerts=_rules("changed"),
        act=_reloaded,
        settings={},
    ),
    Scenario(
        name="watched",
        playbooks={"changed": steps("wait: 1m", ticket("ticket"))},
        alerts=_rules("changed"),
        act=_reloaded,
        settings={"watch_playbooks": True},
    ),
    Scenario(
        name="ruled",
        playbooks={"ruled": steps(ticket("ticket"))},
        act=_ruled,
        settings={"policy": {"path": "policies", "shadow": "candidate"}},
        files={"policies/main_test.rego": PASSES, "candidate/main.rego": CANDIDATE},
    ),
    Scenario(
        name="withdrawn",
        playbooks={"ruled": steps(ticket("ticket"))},
        faults={"desk/tickets": {"mode": "drop_after", "times": 1}},
        act=_withdrawn,
        settings={},
        files={"policies/main_test.rego": PASSES},
    ),
    Scenario(
        name="aged",
        playbooks={"short": steps(ticket("ticket")), "long": steps("wait: 90d", ticket("ticket"))},
        alerts=(),
        act=_aged,
        settings={"retention": {"days": DAYS}},
    ),
    Scenario(name="rotated", playbooks={"rotated": steps(ticket("ticket"))}, act=_rotated, settings={}),
    Scenario(name="quieted", playbooks={"quieted": steps(ticket("ticket"))}, alerts=(), act=_quieted),
    Scenario(name="bug", playbooks={"buggy": steps(ticket("ticket"))}, store_fault="bug"),
    Scenario(
        name="conflict",
        playbooks={"conflicting": steps(ticket("first"), ticket("second"))},
        store_fault="conflict",
    ),
)
