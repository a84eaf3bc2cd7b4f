"""The input document: whole, plain JSON, with every spelling of a target made comparable."""

from datetime import UTC, datetime

import pytest

from soar.model.action import ActionRequest, Impact, Risk, Target
from soar.model.alert import Alert, Severity
from soar.model.approval import Vote
from soar.policy.input import ActionFacts, AlertFacts, ApprovalFacts, TargetFacts, TimeFacts

from .policy_questions import Ask

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("type_", "id_", "names"),
    [
        ("host", "WS-17", ("ws-17",)),
        ("host", "DC-01.Corp.Example.", ("dc-01.corp.example", "dc-01")),
        ("host", " dc-01 ", ("dc-01",)),
        ("host", "ＤＣ-01", ("dc-01",)),  # full-width letters  # noqa: RUF001 - the point of the case
        ("host", "10.1.2.3", ("10.1.2.3",)),
        ("user", "CORP\\Ada", ("corp\\ada", "ada")),
        ("user", "Ada@corp.example", ("ada@corp.example", "ada")),
        ("url", "HTTPS://A.example/", ("https://a.example/",)),
        ("host", "", ()),
    ],
)
def test_names_are_every_spelling_folded(type_: str, id_: str, names: tuple[str, ...]) -> None:
    assert TargetFacts(type=type_, id=id_).names == names


@pytest.mark.parametrize(
    ("id_", "addresses"),
    [
        ("192.0.2.1", ("192.0.2.1",)),
        ("2001:DB8:0::1", ("2001:db8::1",)),
        ("::ffff:10.0.0.1", ("::ffff:a00:1", "10.0.0.1")),
        ("2002:0a00:0001::", ("2002:a00:1::", "10.0.0.1")),
        ("64:ff9b::a00:1", ("64:ff9b::a00:1", "10.0.0.1")),
        ("fe80::1%eth0", ("fe80::1",)),
        ("010.0.0.1", ()),
        ("10.0.0.0/8", ()),
        ("10.0.0.1:443", ()),
        ("evil.example", ()),
    ],
)
def test_addresses_are_canonical_with_the_one_inside(id_: str, addresses: tuple[str, ...]) -> None:
    assert TargetFacts(type="ip", id=id_).addresses == addresses


def test_facts_are_made_from_what_the_engine_holds() -> None:
    request = ActionRequest(
        run_id="run-1",
        path="0",
        step_id="isolate",
        connector="lab_edr",
        instance="edr",
        connector_version="1.0",
        verb="isolate",
        effect="idempotent",
        risk="contain",
        impact="reversible",
        undo="release",
        params={"host": "ws-1"},
        targets=(Target(type="host", id="ws-1", tier="server", tags=("x",)),),
        idempotency_key="k",
    )
    facts = ActionFacts(
        id="0",
        connector="lab_edr",
        connector_version="1.0",
        verb="isolate",
        capability="host.isolate",
        effect=Impact.REVERSIBLE,
        risk=Risk.CONTAIN,
        reversible_by="release",
        params={"host": "ws-1"},
        digest=request.digest,
        targets=(TargetFacts(type="host", id="ws-1", tier="server", tags=("x",)),),
    )
    assert ActionFacts.json_of(request, capability="host.isolate") == facts.model_dump(mode="json")
    vote = Vote(approver="ada", groups=("g",), decision="grant", method="cli", at=NOW, digest="d", reason="private")
    assert ApprovalFacts.of(vote).model_dump(mode="json") == {
        "approver": "ada",
        "groups": ["g"],
        "method": "cli",
        "at": "2026-01-05T12:00:00.000000Z",
        "digest": "d",
        "decision": "grant",
    }
    alert = Alert(
        id="a",
        uid="u",
        source="s",
        product="p",
        title="t",
        severity="high",
        severity_score=70,
        time=NOW,
        received_at=NOW,
    )
    seen = AlertFacts(id="a", source="s", severity=Severity.HIGH)
    assert AlertFacts.json_of(alert.model_dump(mode="json")) == seen.model_dump(mode="json")
    assert AlertFacts().severity == "informational"


def test_time_is_told_in_utc() -> None:
    facts = TimeFacts.of(datetime.fromisoformat("2026-01-04T23:30:00-05:00"))
    assert (facts.now_rfc3339, facts.weekday, facts.unix) == ("2026-01-05T04:30:00Z", "monday", 1767587400)


def test_equal_questions_have_equal_digests_and_others_do_not(ask: Ask) -> None:
    one = ask("host.isolate", "host:ws-1")
    assert one.digest == ask("host.isolate", "host:ws-1").digest
    assert one.digest != ask("host.isolate", "host:ws-2").digest
    assert one.document()["schema"] == "soar.input/v1"
