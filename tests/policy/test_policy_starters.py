# ruff: noqa: E501 - one case a line reads as a table
"""What the starter policies say of the cases that everybody asks about first."""

import json
from datetime import timedelta
from typing import Any

import pytest

from soar.model.decision import Decision, DecisionDocument
from soar.model.duration import parse_duration
from soar.policy.bundle import Bundle, input_schema, load_bundle, person_schema
from soar.policy.embedded import EmbeddedEngine
from soar.policy.gate import Gate
from soar.policy.input import ActorFacts, ApprovalFacts, Counters, PlaybookFacts, RunFacts, TimeFacts
from soar.policy.person import Permission

from .policy_questions import MONDAY, ROOT, Ask, CountingIds

UNDO = RunFacts(id="run-2", kind="undo")
FREEZE = TimeFacts.of(MONDAY, freeze=("year end",))
NIGHT = TimeFacts.of(MONDAY + timedelta(hours=12), business_hours=False)


async def decide(starters: Bundle, engine: EmbeddedEngine, ask: Ask, *words: str, **parts: Any) -> Decision:
    gate = Gate(engine, mandatory_controls=starters.mandatory_controls, ids=CountingIds())
    return await gate.decide(ask(*words, **parts).document())


@pytest.mark.parametrize(
    ("words", "parts", "effect", "codes"),
    [
        (["ticket.create"], {"severity": "informational"}, "allow", []),
        (["notify.send"], {"severity": "low", "time": FREEZE}, "allow", []),
        (["ioc.lookup", "observable:evil.example"], {"severity": "low"}, "allow", []),
        (["host.status", "host:dc-01"], {"severity": "low"}, "allow", []),
        (["host.isolate", "host:ws-17"], {"severity": "critical"}, "allow", []),
        (["host.isolate", "host:WS-17.corp.example"], {"severity": "high"}, "allow", []),
        (["host.isolate", "host:ws-17"], {"severity": "medium"}, "require_approval", ["matrix.severity"]),
        (["host.isolate", "host:ws-17"], {"severity": "high", "confidence": 10}, "require_approval", ["matrix.confidence"]),
        (["host.isolate", "host:srv-files"], {"severity": "critical"}, "require_approval", ["matrix.tier"]),
        (["host.isolate", "host:DC-01.corp.example"], {"severity": "critical"}, "deny", ["protected.asset"]),
        (["host.isolate", "host:dc12"], {"severity": "critical"}, "deny", ["protected.asset"]),
        (["host.isolate", "host:dc-01"], {"severity": "medium"}, "deny", ["protected.asset"]),
        (["host.isolate", "host:soar"], {"severity": "critical"}, "deny", ["protected.asset"]),
        (["account.disable", "user:j.doe"], {"severity": "high"}, "allow", []),
        (["account.disable", "user:j.doe"], {"severity": "medium"}, "require_approval", ["matrix.severity"]),
        (["account.disable", "user:BreakGlass-1"], {"severity": "critical"}, "deny", ["protected.asset"]),
        (["account.disable", "user:CORP\\breakglass2"], {"severity": "critical"}, "deny", ["protected.asset"]),
        (["account.disable", "user:CEO@corp.example"], {"severity": "critical"}, "deny", ["protected.asset"]),
        (["ip.block", "ip:45.155.205.233"], {"severity": "high"}, "allow", []),
        (["ip.block", "ip:10.1.2.3"], {"severity": "critical"}, "deny", ["networks.never_block"]),
        (["ip.block", "ip:::ffff:10.1.2.3"], {"severity": "critical"}, "deny", ["networks.never_block"]),
        (["ip.block", "ip:64:ff9b::10.1.2.3"], {"severity": "critical"}, "deny", ["networks.never_block"]),
        (["ip.block", "ip:2002:0a01:0203::1"], {"severity": "critical"}, "deny", ["networks.never_block"]),
        (["ip.block", "ip:fd00::1"], {"severity": "critical"}, "deny", ["networks.never_block"]),
        (["ip.block", "ip:fe80::1%eth0"], {"severity": "critical"}, "deny", ["networks.never_block"]),
        (["ip.block", "ip:0.0.0.0/0"], {"severity": "critical"}, "deny", ["networks.no_address"]),
        (["ioc.block", "observable:192.168.1.1"], {"severity": "critical"}, "deny", ["networks.never_block"]),
        (["ioc.block", "observable:evil.example"], {"severity": "high"}, "allow", []),
        (["email.delete"], {"severity": "high"}, "require_approval", ["matrix.severity", "separation.two_people"]),
        (["email.delete"], {"severity": "informational"}, "deny", ["matrix.severity"]),
        (["email.delete"], {"severity": "high", "time": NIGHT}, "require_approval", ["freeze.business_hours", "matrix.severity", "separation.two_people"]),
        (["host.isolate", "host:ws-17"], {"severity": "high", "time": FREEZE}, "deny", ["freeze.active"]),
        (["host.isolate", "host:ws-17"], {"severity": "critical", "time": FREEZE}, "require_approval", ["freeze.active"]),
        (["host.release", "host:ws-17"], {"severity": "low", "time": FREEZE, "run": UNDO}, "allow", []),
        (["host.release", "host:dc-01"], {"severity": "low", "run": UNDO}, "allow", []),
        (["host.isolate", "host:ws-17"], {"counters": Counters(connector={"lab_host": {"hour": 60, "day": 60}})}, "deny", ["blast_radius.connector_hour"]),
        (["host.isolate", "host:ws-17"], {"counters": Counters(playbook={"p1": {"day": 300}})}, "deny", ["blast_radius.playbook_day"]),
        (["host.isolate", "host:ws-17"], {"counters": Counters(target={"host:ws-17": {"hour": 5, "day": 5}})}, "deny", ["blast_radius.target_hour"]),
        (["host.isolate", "host:ws-17"], {"counters": Counters(fleet_percent={"host": 5.0})}, "deny", ["blast_radius.fleet"]),
        (["ticket.create"], {"counters": Counters(playbook={"p1": {"day": 9000}})}, "allow", []),
        (["ticket.create"], {"run": RunFacts(id="run-1", depth=6)}, "deny", ["loops.depth"]),
        (["ticket.create"], {"run": RunFacts(id="run-1", attempt=21)}, "deny", ["loops.attempts"]),
        (["host.status", "host:ws-17"], {"halted": True}, "deny", ["halt.active"]),
    ],
)  # fmt: skip
async def test_the_starters_say(
    starters: Bundle, engine: EmbeddedEngine, ask: Ask, words: list[str], parts: dict[str, Any], effect: str, codes: list[str]
) -> None:  # fmt: skip
    decision = await decide(starters, engine, ask, *words, **parts)
    assert decision.effect == effect
    assert sorted(reason.code for reason in decision.reasons) == codes
    assert set(decision.controls_evaluated) == starters.mandatory_controls


async def test_an_approval_says_who_how_long_and_who_not(starters: Bundle, engine: EmbeddedEngine, ask: Ask) -> None:
    (one,) = (await decide(starters, engine, ask, "host.isolate", "host:ws-1", severity="low")).approvals
    assert [(quorum.group, quorum.min) for quorum in one.groups] == [("soc-lead", 1)]
    assert (one.ttl, one.execution_ttl) == (parse_duration("30m"), parse_duration("15m"))
    assert set(one.exclude) == {"requester", "playbook_author"}
    assert not one.reason_required
    (two,) = (await decide(starters, engine, ask, "email.delete")).approvals
    assert [(quorum.group, quorum.min) for quorum in two.groups] == [("ir-manager", 1), ("soc-lead", 1)]
    assert two.distinct
    assert two.reason_required


@pytest.mark.parametrize(
    ("approver", "method", "parts", "codes"),
    [
        ("grace", "cli", {}, []),
        ("ada", "cli", {}, ["separation.author_approval"]),
        ("ada", "cli", {"playbook": PlaybookFacts(id="p1", sha256="00")}, []),
        ("grace", "cli", {"actor": ActorFacts(id="grace", type="person")}, ["separation.self_approval"]),
        ("grace", "slack", {}, ["separation.chat_approval"]),
    ],
)
async def test_a_grant_that_should_never_have_been_taken_stops_the_action(
    starters: Bundle,
    engine: EmbeddedEngine,
    ask: Ask,
    approver: str,
    method: str,
    parts: dict[str, Any],
    codes: list[str],
) -> None:
    vote = ApprovalFacts(approver=approver, method=method, at="2026-01-05T12:00:00Z", digest="00", decision="grant")
    decision = await decide(starters, engine, ask, "email.delete", phase="execute", approvals=(vote,), **parts)
    assert [reason.code for reason in decision.reasons if reason.code.endswith("_approval")] == codes
    assert (decision.effect == "deny") == bool(codes)


async def test_a_control_of_ones_own_is_a_file_of_its_own(tmp_path: Any, ask: Ask) -> None:
    """It joins the decision without an edit elsewhere, and can be made mandatory."""
    load_bundle(ROOT / "policies").export(tmp_path)
    data = json.loads((tmp_path / "data.json").read_text())
    (tmp_path / "data.json").unlink()
    data["controls"]["mandatory"].append("friday")
    (tmp_path / "data").mkdir()
    for name, value in data.items():
        (tmp_path / "data" / f"{name}.json").write_text(json.dumps(value))
    (tmp_path / "controls" / "friday.rego").write_text(FRIDAY)
    bundle = load_bundle(tmp_path)
    engine = EmbeddedEngine(bundle)
    friday = TimeFacts.of(MONDAY + timedelta(days=4))
    assert (await decide(bundle, engine, ask, "ticket.create")).warnings == ()
    assert (await decide(bundle, engine, ask, "ticket.create", time=friday)).warnings == ("it is friday",)
    denied = await decide(bundle, engine, ask, "host.isolate", "host:ws-1", time=friday)
    assert [reason.code for reason in denied.reasons] == ["friday.no"]
    await engine.close()


FRIDAY = """
package soar.controls.friday

evaluated contains "friday"

warn contains "it is friday" if input.time.weekday == "friday"

deny contains {"code": "friday.no", "control": "friday", "msg": "not today"} if {
	input.time.weekday == "friday"
	data.soar.lib.harmful
}
"""


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("input", input_schema()),
        ("decision", DecisionDocument.model_json_schema()),
        ("person", person_schema()),
        ("permission", Permission.model_json_schema()),
    ],
)
def test_the_shipped_schemas_are_what_the_code_says(name: str, schema: dict[str, Any]) -> None:
    """`scripts/` has no generator: write what this comparison shows."""
    assert json.loads((ROOT / f"policies/schemas/{name}.json").read_text()) == schema
