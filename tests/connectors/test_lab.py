"""The lab's connectors against a running lab, through the registry: what the engine does, and what it then is told.

The lab's request log is the oracle: it says what really happened, whatever the connector believes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import soar_connectors.lab
from soar.connector.base import Call
from soar.connector.registry import InstanceConfig, Registry
from soar.connector.secret import SecretResolver
from soar.errors import (
    AuthenticationError,
    ConnectorError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitedError,
    RejectedError,
    RemoteConflictError,
    RemoteFailureError,
    RemoteNotFoundError,
)
from soar.lab import Fault, LabServer, Mode
from soar.model.action import ActionRequest, Effect, Risk
from soar.model.clock import SystemClock

TOKEN = "a-token-for-tests"
NAMES = ("lab_desk", "lab_edr", "lab_idp", "lab_chat", "lab_intel", "lab_firewall")
EICAR = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"


@dataclass
class Bench:
    """A lab and every connector to it."""

    lab: LabServer
    registry: Registry

    async def do(
        self, action: str, params: dict[str, Any], *, key: str = "key-1", seconds: float = 10
    ) -> dict[str, Any]:
        """Invoke one action as the engine does."""
        instance, _, verb = action.partition(".")
        offer = self.registry.catalogue().resolve(action)
        assert offer is not None
        spec = offer.spec
        prepared = self.registry.prepare(instance, verb, params)
        request = ActionRequest(
            run_id="run-1",
            path="1",
            step_id="one",
            connector=spec.connector,
            instance=instance,
            connector_version=offer.connector_version,
            verb=verb,
            effect=spec.effect,
            risk=spec.risk,
            impact=spec.impact,
            undo=spec.undo,
            params=prepared,
            idempotency_key=key,
        )
        deadline = SystemClock().now() + timedelta(seconds=seconds)
        call = Call(idempotency_key=key, run_id="run-1", path="1", deadline=deadline)
        return (await self.registry.invoke(request, call)).value

    def effects(self) -> list[str]:
        """What really happened, from the log."""
        lines = [json.loads(line) for line in self.lab.log_path.read_text().splitlines()]
        return [line["effect"] for line in lines if line["applied"]]


@asynccontextmanager
async def registry_for(url: str, token: str = TOKEN) -> AsyncIterator[Registry]:
    config = {"base_url": url, "token": "secret://env/LAB_TOKEN"}
    registry = Registry.build(
        {name: InstanceConfig(use=name, config=config) for name in NAMES},
        {"ticket.*": "lab_desk", "host.*": "lab_edr", "ioc.block": "lab_edr", "ioc.lookup": "lab_intel"},
        SecretResolver({"LAB_TOKEN": token}),
        clock=SystemClock(),
    )
    yield registry
    await registry.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    lab = LabServer(port=0, log_path=tmp_path / "lab.jsonl", token=TOKEN)
    await lab.start()
    async with registry_for(lab.url) as registry:
        yield Bench(lab, registry)
    await lab.stop()


async def test_every_connector_says_that_the_lab_knows_it(bench: Bench) -> None:
    for name in NAMES:
        assert "knows our token" in await bench.registry.test(name)
    assert bench.effects() == []


async def test_every_capability_is_offered_by_exactly_one_lab_connector(bench: Bench) -> None:
    catalogue = bench.registry.catalogue()
    offered = sorted(offer.spec.capability for offer in catalogue.offers if offer.spec.capability)
    assert offered == sorted(catalogue.capabilities)


async def test_what_contains_can_be_undone_and_names_whom_it_acts_on(bench: Bench) -> None:
    for offer in bench.registry.catalogue().offers:
        if offer.spec.risk is Risk.CONTAIN:
            assert offer.spec.undo, offer.spec.name
        if offer.spec.risk is not Risk.NONE:
            assert offer.spec.targets, offer.spec.name
        if offer.spec.effect is Effect.VERIFIABLE:
            assert offer.spec.verify, offer.spec.name


async def test_the_readme_tells_every_action_as_it_is_declared(bench: Bench) -> None:
    readme = (Path(soar_connectors.lab.__file__).parent / "README.md").read_text(encoding="utf-8")
    for spec in (offer.spec for offer in bench.registry.catalogue().offers):
        capability, undo = (f" `{word}`" if word else "" for word in (spec.capability, spec.undo))
        assert f"| `{spec.name}` |{capability} | {spec.effect} | {spec.risk} |{undo} |" in readme


async def test_a_ticket_lives_its_life(bench: Bench) -> None:
    new = {"title": "Phishing", "severity": "high", "labels": ["mail"]}
    assert await bench.do("lab_desk.create_ticket", new) == {"key": "DESK-1", "url": f"{bench.lab.url}/#DESK-1"}
    assert await bench.do("lab_desk.update_ticket", {"key": "DESK-1", "status": "in_progress"}) == {"key": "DESK-1"}
    assert await bench.do("lab_desk.comment_ticket", {"key": "DESK-1", "text": "seen"}) == {"key": "DESK-1"}
    assert await bench.do("lab_desk.find_tickets", {"query": "phishing"}) == {
        "tickets": [{"key": "DESK-1", "title": "Phishing", "status": "in_progress", "url": f"{bench.lab.url}/#DESK-1"}]
    }
    closed = await bench.do("lab_desk.close_ticket", {"key": "DESK-1", "resolution": "resolved"})
    assert closed == {"key": "DESK-1", "status": "closed"}
    assert bench.effects() == [
        "opened ticket DESK-1",
        "changed ticket DESK-1",
        "commented on ticket DESK-1",
        "closed ticket DESK-1",
    ]
    ticket = bench.lab.snapshot()["desk"]["tickets"]["DESK-1"]
    assert (ticket["severity"], ticket["labels"]) == ("high", ["mail"])


@pytest.mark.parametrize(
    ("act", "look", "params", "field", "held"),
    [
        ("lab_edr.isolate_host", "lab_edr.host_status", {"host": "ws-17"}, "isolated", True),
        ("lab_edr.isolate_host", "lab_edr.host_status", {"host": "a/b c?#\u00e9<script>"}, "isolated", True),
        ("lab_idp.disable_account", "lab_idp.get_account", {"user": "DOMAIN\\alice"}, "enabled", False),
        ("lab_firewall.block_ip", "lab_firewall.ip_status", {"ip": "203.0.113.66", "reason": "c2"}, "blocked", True),
        ("lab_firewall.block_ip", "lab_firewall.ip_status", {"ip": "2001:db8::bad"}, "blocked", True),
    ],
)
async def test_undo_undoes_and_reading_back_tells_the_difference(
    bench: Bench, act: str, look: str, params: dict[str, Any], field: str, held: bool
) -> None:
    offer = bench.registry.catalogue().resolve(act)
    assert offer is not None
    before = await bench.do(look, params)
    done = await bench.do(act, params)
    assert (before[field], done[field]) == (not held, held)
    assert await bench.do(look, params) == done

    undone = await bench.do(f"{offer.instance}.{offer.spec.undo}", params)
    assert undone == before
    assert await bench.do(look, params) == before
    assert len(bench.effects()) == 2


async def test_blocking_an_observable_is_undone(bench: Bench) -> None:
    params = {"type": "url", "value": "http://login-verify.test/keep?a=b&c", "reason": "phishing"}
    assert (await bench.do("lab_edr.block_ioc", params))["blocked"] is True
    assert bench.lab.snapshot()["edr"]["blocked"] == [params]
    assert (await bench.do("lab_edr.unblock_ioc", params))["blocked"] is False
    assert bench.lab.snapshot()["edr"]["blocked"] == []


async def test_unblocking_takes_out_every_rule_for_the_address_and_no_other(bench: Bench) -> None:
    for ip in ("203.0.113.66", "203.0.113.66", "203.0.113.6"):
        await bench.do("lab_firewall.block_ip", {"ip": ip})
    await bench.do("lab_firewall.unblock_ip", {"ip": "203.0.113.66"})
    assert [rule["ip"] for rule in bench.lab.snapshot()["firewall"]["rules"]] == ["203.0.113.6"]


async def test_sessions_are_revoked(bench: Bench) -> None:
    assert await bench.do("lab_idp.revoke_sessions", {"user": "alice"}) == {"user": "alice", "revoked": 3}
    assert await bench.do("lab_idp.revoke_sessions", {"user": "alice"}) == {"user": "alice", "revoked": 0}


async def test_people_are_told(bench: Bench) -> None:
    said = {"channel": "#soc", "text": "ws-17 is cut off", "severity": "high"}
    assert await bench.do("lab_chat.send_message", said) == {"id": "msg-1"}
    assert await bench.do("lab_chat.trigger_page", {"summary": "get up", "severity": "critical"}) == {"id": "page-1"}
    mail = {"to": "bob@range.test", "subject": "Your mail", "text": "was deleted"}
    assert await bench.do("lab_chat.send_email", mail) == {"id": "mail-4"}


async def test_mails_are_found_and_deleted(bench: Bench) -> None:
    found = await bench.do("lab_chat.search_email", {"query": "login-verify.test"})
    assert (found["count"], found["messages"][0]["sender"]) == (2, "it-support@login-verify.test")
    ids = [mail["id"] for mail in found["messages"]]
    assert bench.registry.targets("lab_chat", "delete_email", {"ids": ids})[0].id == "mail-1"
    assert await bench.do("lab_chat.delete_email", {"ids": ids}) == {"deleted": 2}
    assert (await bench.do("lab_chat.search_email", {"query": "login-verify.test"}))["count"] == 0


async def test_observables_are_looked_up_and_events_searched(bench: Bench) -> None:
    bad = await bench.do("lab_intel.lookup_ioc", {"type": "sha256", "value": EICAR})
    assert (bad["known"], bad["malicious"] > 0, bad["score"], bad["tags"]) == (True, True, 95, ["eicar"])
    assert (await bench.do("lab_intel.lookup_ioc", {"type": "domain", "value": "a.example"}))["known"] is False
    events = await bench.do("lab_intel.search_events", {"query": "host=ws-17"})
    assert (events["count"], events["rows"][0]["domain"]) == (3, "login-verify.test")
    closed = await bench.do("lab_intel.update_alert", {"id": "a/1", "status": "closed", "comment": "noise"})
    assert closed == {"id": "a/1", "status": "closed"}


@pytest.mark.parametrize(
    ("action", "params", "effect"),
    [
        ("lab_desk.create_ticket", {"title": "x"}, "opened ticket DESK-1"),
        ("lab_chat.trigger_page", {"summary": "x", "severity": "high"}, "paged page-1"),
    ],
)
async def test_a_keyed_action_sent_again_after_a_lost_answer_happens_once(
    bench: Bench, action: str, params: dict[str, Any], effect: str
) -> None:
    bench.lab.faults.put(action.removeprefix("lab_").split(".")[0], Fault(mode=Mode.DROP_AFTER, times=1))
    with pytest.raises(OutcomeUnknownError):
        await bench.do(action, params, key="k")
    first = await bench.do(action, params, key="k")
    assert await bench.do(action, params, key="k") == first
    assert bench.effects() == [effect]
    await bench.do(action, params, key="another")
    assert len(bench.effects()) == 2


@pytest.mark.parametrize(
    ("action", "params", "effect"),
    [
        ("lab_chat.send_message", {"channel": "#soc", "text": "x"}, "posted msg-1 to #soc"),
        ("lab_chat.send_email", {"to": "a@range.test", "subject": "x", "text": "x"}, "mailed mail-4 to a@range.test"),
        ("lab_firewall.block_ip", {"ip": "203.0.113.66"}, "blocked 203.0.113.66 by rule-1"),
        ("lab_edr.isolate_host", {"host": "ws-17"}, "isolated host ws-17"),
        ("lab_idp.disable_account", {"user": "bob"}, "disabled user bob"),
    ],
)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(mode=Mode.DROP_AFTER),
        Fault(mode=Mode.GARBAGE),
        Fault(mode=Mode.HUGE),
    ],
    ids=lambda fault: fault.mode,
)
async def test_an_answer_lost_after_the_act_is_an_unknown_outcome_and_one_effect(
    bench: Bench, fault: Fault, action: str, params: dict[str, Any], effect: str
) -> None:
    """The connector never sends twice by itself, whatever became of the answer."""
    bench.lab.faults.put(action.removeprefix("lab_").split(".")[0], fault)
    with pytest.raises(OutcomeUnknownError):
        await bench.do(action, params)
    assert bench.effects() == [effect]


async def test_an_answer_later_than_the_deadline_is_an_unknown_outcome_and_one_effect(bench: Bench) -> None:
    bench.lab.faults.put("chat", Fault(mode=Mode.SLOW, seconds=60))
    with pytest.raises(OutcomeUnknownError):
        await bench.do("lab_chat.send_message", {"channel": "#soc", "text": "x"}, seconds=1.0)
    assert bench.effects() == ["posted msg-1 to #soc"]


async def test_a_blind_repeat_at_the_firewall_shows(bench: Bench) -> None:
    """Why `block_ip` is verifiable: reading back tells what a lost answer did, a repeat would add a rule."""
    bench.lab.faults.put("firewall/rules", Fault(mode=Mode.DROP_AFTER, method="POST", times=1))
    with pytest.raises(OutcomeUnknownError):
        await bench.do("lab_firewall.block_ip", {"ip": "203.0.113.66"})
    assert await bench.do("lab_firewall.ip_status", {"ip": "203.0.113.66"}) == {"ip": "203.0.113.66", "blocked": True}
    await bench.do("lab_firewall.block_ip", {"ip": "203.0.113.66"})
    assert len(bench.lab.snapshot()["firewall"]["rules"]) == 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(mode=Mode.UNAUTHORIZED), AuthenticationError),
        (Fault(mode=Mode.ERROR), OutcomeUnknownError),
        (Fault(mode=Mode.ERROR, status=503, retry_after=1), RemoteFailureError),
        (Fault(mode=Mode.ERROR, status=403), AuthenticationError),
        (Fault(mode=Mode.ERROR, status=404), RemoteNotFoundError),
        (Fault(mode=Mode.ERROR, status=409), RemoteConflictError),
        (Fault(mode=Mode.ERROR, status=422), RejectedError),
        (Fault(mode=Mode.REDIRECT), RejectedError),
        (Fault(mode=Mode.DROP_BEFORE), OutcomeUnknownError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else f"{value.mode}-{value.status}",
)
async def test_a_refusal_is_told_by_its_right_name_and_nothing_happened(
    bench: Bench, fault: Fault, error: type[ConnectorError]
) -> None:
    bench.lab.faults.put("edr", fault)
    with pytest.raises(error):
        await bench.do("lab_edr.isolate_host", {"host": "ws-17"})
    assert bench.effects() == []


async def test_a_rate_limit_says_how_long_to_wait(bench: Bench) -> None:
    bench.lab.faults.put("chat", Fault(mode=Mode.RATE_LIMITED, retry_after=17))
    with pytest.raises(RateLimitedError) as caught:
        await bench.do("lab_chat.send_message", {"channel": "#soc", "text": "x"})
    assert caught.value.retry_after_seconds == 17
    assert bench.effects() == []


async def test_a_failed_read_is_a_failure_and_never_unknown(bench: Bench) -> None:
    for mode in (Mode.DROP_BEFORE, Mode.DROP_AFTER, Mode.GARBAGE, Mode.ERROR):
        bench.lab.faults.put("intel", Fault(mode=mode))
        with pytest.raises(RemoteFailureError):
            await bench.do("lab_intel.lookup_ioc", {"type": "ip", "value": "203.0.113.66"})


async def test_what_the_lab_refuses_is_refused_by_its_right_name(bench: Bench) -> None:
    with pytest.raises(RemoteNotFoundError):
        await bench.do("lab_desk.comment_ticket", {"key": "DESK-9", "text": "x"})
    with pytest.raises(RejectedError):
        await bench.do("lab_firewall.block_ip", {"ip": "not an address"})
    await bench.do("lab_desk.create_ticket", {"title": "x"})
    with pytest.raises(RejectedError):
        await bench.do("lab_desk.update_ticket", {"key": "DESK-1", "status": "no such status"})
    await bench.do("lab_desk.close_ticket", {"key": "DESK-1"})
    with pytest.raises(RemoteConflictError):
        await bench.do("lab_desk.close_ticket", {"key": "DESK-1", "resolution": "duplicate"})


async def test_a_wrong_token_is_an_authentication_error(bench: Bench) -> None:
    async with registry_for(bench.lab.url, token="another-token") as registry:
        stranger = Bench(bench.lab, registry)
        with pytest.raises(AuthenticationError):
            await stranger.do("lab_edr.isolate_host", {"host": "ws-17"})
        with pytest.raises(AuthenticationError):
            await registry.test("lab_edr")
    assert bench.effects() == []


async def test_a_lab_that_is_not_there_proves_that_nothing_was_sent(bench: Bench) -> None:
    await bench.lab.stop()
    with pytest.raises(NotSentError):
        await bench.do("lab_chat.send_message", {"channel": "#soc", "text": "x"})
