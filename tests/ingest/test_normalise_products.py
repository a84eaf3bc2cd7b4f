"""Forms of payloads that the samples do not show, written after the products' documentation."""

import json
from typing import Any

import pytest

from soar.model.alert import Alert, DeadLetter, Severity

from .normalising import NOW, alert, alerts, dead, normalise

GUARDDUTY = {
    "schemaVersion": "2.0",
    "accountId": "111122223333",
    "region": "eu-west-1",
    "id": "f1",
    "type": "UnauthorizedAccess:EC2/SSHBruteForce",
    "severity": 5.3,
    "title": "SSH brute force",
    "updatedAt": "2026-01-02T03:04:05.000Z",
    "resource": {
        "instanceDetails": {
            "instanceId": "i-0abc",
            "networkInterfaces": [{"privateIpAddress": "10.0.0.5", "publicIp": "203.0.113.9"}],
            "tags": [{"key": "Name", "value": "bastion"}],
        }
    },
    "service": {
        "serviceName": "guardduty",
        "action": {"networkConnectionAction": {"remoteIpDetails": {"ipAddressV4": "198.51.100.7"}}},
    },
}


def test_guardduty_in_an_eventbridge_event() -> None:
    event = {"version": "0", "detail-type": "GuardDuty Finding", "source": "aws.guardduty", "detail": GUARDDUTY}
    one = alert(event)
    assert (one.source, one.uid, one.severity, one.severity_score) == ("guardduty", "f1", "medium", 48)
    assert one.raw == GUARDDUTY
    host = one.entities.hosts[0]
    assert (host.id, host.name, host.ip) == ("i-0abc", "bastion", "10.0.0.5")
    assert [(ip.address, ip.role) for ip in one.entities.ips] == [
        ("198.51.100.7", "attacker"),
        ("203.0.113.9", "target"),
    ]


def test_securityhub_events_hold_several_findings() -> None:
    finding = {
        "Id": "a",
        "ProductArn": "arn:aws:securityhub:eu-west-1::product/aws/inspector",
        "GeneratorId": "g",
        "Title": "T",
        "Severity": {"Normalized": 90},
        "UpdatedAt": "2026-01-02T03:04:05Z",
        "Resources": [{"Type": "AwsEc2Instance", "Id": "arn:aws:ec2:eu-west-1:1:instance/i-1"}],
    }
    event = {"detail-type": "Security Hub Findings - Imported", "source": "aws.securityhub"}
    found = alerts({**event, "detail": {"findings": [finding, {**finding, "Id": "b"}]}})
    assert [one.uid for one in found] == ["a", "b"]
    assert found[0].severity is Severity.CRITICAL
    assert dead({**event, "detail": {"findings": []}}).code == "empty"


def test_cloudwatch_alarm_inside_an_sns_message() -> None:
    """The alarm is JSON inside a string; `raw` is the alarm, decoded."""
    alarm = {
        "AlarmName": "disk",
        "AlarmArn": "arn:aws:cloudwatch:eu-west-1:1:alarm:disk",
        "AWSAccountId": "1",
        "Region": "EU (Ireland)",
        "NewStateValue": "ALARM",
        "NewStateReason": "Threshold Crossed",
        "StateChangeTime": "2026-01-02T03:04:05.678+0000",
        "Trigger": {"MetricName": "DiskUsed", "Dimensions": [{"name": "InstanceId", "value": "i-1"}]},
    }
    one = alert({"Type": "Notification", "MessageId": "m", "TopicArn": "t", "Message": json.dumps(alarm)})
    assert (one.source, one.title, one.status) == ("cloudwatch", "disk", "ALARM")
    assert one.time.isoformat() == "2026-01-02T03:04:05.678000+00:00"
    assert (one.entities.resources[0].id, one.entities.resources[0].account) == ("i-1", "1")
    assert one.raw == alarm


def test_an_sns_message_that_is_a_sentence_is_still_an_alert() -> None:
    one = alert({"Type": "Notification", "Message": "{ hello", "Subject": "Greetings"})
    assert one.source == "generic"


FLAT = {
    "@timestamp": "2026-01-02T03:04:05.000Z",
    "kibana.alert.uuid": "u-1",
    "kibana.alert.rule.name": "Mimikatz",
    "kibana.alert.rule.rule_id": "r-1",
    "kibana.alert.severity": "critical",
    "kibana.alert.risk_score": 99,
    "kibana.alert.rule.threat": [
        {"tactic": {"id": "TA0006"}, "technique": [{"id": "T1003", "subtechnique": [{"id": "T1003.001"}]}]}
    ],
    "host.name": "ws-1",
    "host.ip": ["10.0.0.1", "fe80::1"],
    "user.name": "bob",
    "process.pid": 4242,
    "process.command_line": "mimikatz.exe",
}
NESTED = {
    "@timestamp": "2026-01-02T03:04:05.000Z",
    "kibana": {
        "alert": {
            "uuid": "u-1",
            "rule": {
                "name": "Mimikatz",
                "rule_id": "r-1",
                "threat": [{"tactic": {"id": "TA0006"}, "technique": [{"id": "T1003"}]}],
            },
            "severity": "critical",
            "risk_score": 99,
        }
    },
    "host": {"name": "ws-1", "ip": ["10.0.0.1"]},
    "user": {"name": "bob"},
    "process": {"pid": 4242, "command_line": "mimikatz.exe"},
}


@pytest.mark.parametrize(
    "payload",
    [
        FLAT,
        NESTED,
        {"_index": ".alerts", "_id": "u-1", "_source": FLAT},
        {**{key: value for key, value in NESTED.items() if key != "kibana"}, **FLAT},
    ],
    ids=["flattened", "nested", "search hit", "mixed"],
)
def test_elastic_alerts_flattened_and_nested(payload: dict[str, Any]) -> None:
    """Dotted keys and nested objects say the same."""
    one = alert(payload)
    assert (one.source, one.uid, one.severity, one.severity_score) == ("elastic", "u-1", "critical", 90)
    assert (one.rule.id, one.rule.name) == ("r-1", "Mimikatz")
    assert (one.entities.hosts[0].name, one.entities.hosts[0].ip) == ("ws-1", "10.0.0.1")
    assert one.entities.users[0].name == "bob"
    assert one.entities.processes[0].pid == 4242
    assert (one.attack.tactics, one.attack.techniques) == (("TA0006",), ("T1003",))


def test_elastic_7_signals() -> None:
    one = alert(
        {
            "@timestamp": "2026-01-02T03:04:05.000Z",
            "signal": {"rule": {"id": "r", "name": "Old", "severity": "low"}, "status": "open"},
            "source": {"ip": "198.51.100.7"},
        }
    )
    assert (one.source, one.rule.id, one.severity, one.status) == ("elastic", "r", "low", "open")
    assert one.entities.ips[0].role == "source"


def test_the_splunk_webhook() -> None:
    """The first row of the search is the alert; who searched and where stands around it."""
    one = alert(
        {
            "sid": "scheduler_admin_search_W2_at_14232356_132",
            "search_name": "Brute force",
            "app": "search",
            "owner": "admin",
            "results_link": "https://splunk.example/app/search/@go?sid=1",
            "result": {"_time": "1767323045", "urgency": "high", "src": "198.51.100.7", "dest": "web-1", "user": "eve"},
        }
    )
    assert (one.source, one.title, one.severity) == ("splunk", "Brute force", "high")
    assert one.time.isoformat() == "2026-01-02T03:04:05+00:00"
    assert one.entities.hosts[0].name == "web-1"
    assert one.entities.ips[0].address == "198.51.100.7"
    assert one.labels["owner"] == "admin"
    assert one.labels["url"].startswith("https://splunk.example/")


def test_a_splunk_notable() -> None:
    one = alert({"event_id": "e@@1", "rule_name": "R", "urgency": "critical", "_time": "01/02/2026 03:04:05 AM"})
    assert (one.source, one.uid, one.severity) == ("splunk", "e@@1", "critical")
    assert one.time.isoformat() == "2026-01-02T03:04:05+00:00"


def test_an_okta_event_hook_holds_several_events() -> None:
    event = {
        "uuid": "1",
        "published": "2026-01-02T03:04:05Z",
        "eventType": "user.lock",
        "outcome": {},
        "severity": "WARN",
    }
    hook = {"eventType": "com.okta.event_hook", "eventTime": "x", "data": {"events": [event, {**event, "uuid": "2"}]}}
    assert [(one.source, one.uid) for one in alerts(hook)] == [("okta", "1"), ("okta", "2")]


def test_an_array_may_hold_alerts_of_several_products() -> None:
    suricata = {
        "event_type": "alert",
        "timestamp": "2026-01-02T03:04:05Z",
        "alert": {"signature_id": 1, "signature": "s", "severity": 1},
    }
    assert [one.source for one in alerts([suricata, GUARDDUTY])] == ["suricata", "guardduty"]


def test_one_bad_element_does_not_keep_the_others_from_becoming_alerts() -> None:
    found = normalise({"receiver": "r", "groupKey": "k", "groupLabels": {}, "alerts": [_firing("a"), 7, _firing("b")]})
    assert [type(one) for one in found] == [Alert, DeadLetter, Alert]
    bad = found[1]
    assert isinstance(bad, DeadLetter)
    assert (bad.code, bad.record.value) == ("not_an_object", b"7")
    assert bad.reason == "the record, alert 2 of 3, is a number, not an object"


def test_a_batch_without_alerts_is_a_dead_letter() -> None:
    empty = dead({"receiver": "r", "groupKey": "k", "groupLabels": {}, "alerts": []})
    assert (empty.code, empty.reason) == ("empty", "the record holds no alert at alerts")


def _firing(name: str) -> dict[str, Any]:
    return {"status": "firing", "labels": {"alertname": name}, "annotations": {}, "startsAt": "2026-01-02T03:04:05Z"}


def test_the_fallback_reads_the_usual_names() -> None:
    one = alert(
        {
            "alert_id": 17,
            "name": "Odd login",
            "priority": "P2",
            "timestamp": 1767323045000,
            "hostname": "web-1",
            "username": "eve",
            "src_ip": "198.51.100.7",
            "dest_ip": "10.0.0.1",
            "sha256": "A" * 64,
            "url": "https://evil.example/x",
            "technique": "T1110.003",
        }
    )
    assert (one.source, one.product, one.uid, one.title) == ("generic", "unknown", "17", "Odd login")
    assert one.rule.name == "Odd login"
    assert one.severity is Severity.HIGH
    assert one.time.isoformat() == "2026-01-02T03:04:05+00:00"
    assert one.entities.count() == 6
    assert one.observables.sha256 == ("a" * 64,)
    assert one.attack.techniques == ("T1110.003",)


@pytest.mark.parametrize(
    ("given", "score"), [(3, 30), (10, 100), ("7", 70), (55, 55), ("high", 70), (None, 50), ("blue", 50), (True, 50)]
)
def test_the_fallback_reads_severities_without_a_scale(given: object, score: int) -> None:
    assert alert({"title": "t", "severity": given}).severity_score == score


def test_nothing_recognisable_is_still_an_alert() -> None:
    """Who sends something unknown finds it, named after where it came from."""
    one = alert({"foo": {"bar": [1]}})
    assert one.title == "Unrecognised alert from probe"
    assert one.severity is Severity.MEDIUM
    assert one.time == one.received_at == NOW
    assert one.uid.startswith("sha256:")
    assert one.labels == {"soar.time_source": "received", "soar.severity_source": "default"}
    assert one.uid == alert(b'{ "foo" : {"bar":[1]} }').uid, "the digest is of the content, not of its spelling"
    assert one.uid != alert({"foo": {"bar": [2]}}).uid
