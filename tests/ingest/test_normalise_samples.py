"""Every real alert that products' documents and detection repositories give becomes Alerts, with its facts right."""

import json
from pathlib import Path

import pytest

from soar.model.alert import Severity

from .normalising import NOW, alert, alerts, sample

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "alerts"
PATHS = sorted(str(path.relative_to(SAMPLES)) for path in SAMPLES.rglob("*.json"))

MAPPING_OF_FOLDER = {
    "aws-cloudwatch": "cloudwatch",
    "aws-guardduty": "guardduty",
    "aws-securityhub": "securityhub",
    "cortex-xdr": "cortex-xdr",
    "crowdstrike-falcon": "crowdstrike",
    "falco": "falco",
    "google-chronicle": "chronicle",
    "grafana-alerting": "grafana",
    "ibm-qradar": "qradar",
    "microsoft-entra-id": "entra-id",
    "microsoft-graph-security": "graph-security",
    "microsoft-sentinel": "sentinel",
    "ocsf-detection-finding": "ocsf",
    "okta": "okta",
    "prometheus-alertmanager": "alertmanager",
    "suricata-eve": "suricata",
    "thinkst-canary": "canary",
    "wazuh-4": "wazuh",
    "wiz": "wiz",
    "zeek-notice": "zeek",
}
# These name nobody and nothing: a metric without dimensions, the definition of a rule, an incident without its alerts.
WITHOUT_ENTITIES = {
    "aws-cloudwatch/high-cpu-usage.json",
    "aws-cloudwatch/high-memory-usage.json",
    "grafana-alerting/networklatencyishigh.json",
    "ibm-qradar/rule-native.json",
    "microsoft-sentinel/incident-get.json",
}
WITHOUT_TIME = {
    "aws-cloudwatch/high-cpu-usage.json",
    "aws-cloudwatch/high-memory-usage.json",
    "grafana-alerting/networklatencyishigh.json",
}
WITHOUT_SEVERITY = {
    "crowdstrike-falcon/crowdstrike-admin-role-assigned-admin-role-assigned-single.json",
    "google-chronicle/listalerts-response.json",
    "grafana-alerting/grafana-12-test-payload.json",
    "ibm-qradar/rule-native.json",
    "thinkst-canary/thinkst-canary-incident-canary-incident.json",
    "thinkst-canary/thinkst-canarytoken-incident-canarytoken-incident.json",
    "zeek-notice/ssl-invalid-server-cert-docs.json",
}
COUNTS = {
    "google-chronicle/listalerts-response.json": 5,
    "ocsf-detection-finding/from-securityscorecard.json": 4,
    "prometheus-alertmanager/webhook-v4-firing-two-alerts.json": 2,
}


def test_the_folder_of_samples_is_the_one_these_tests_know(shared_data: Path) -> None:
    """A product that is added to the samples must be added here."""
    assert {path.name for path in (shared_data / "alerts").iterdir()} == MAPPING_OF_FOLDER.keys()
    assert (WITHOUT_ENTITIES | WITHOUT_TIME | WITHOUT_SEVERITY | COUNTS.keys()) <= set(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_every_sample_becomes_complete_alerts(shared_data: Path, path: str) -> None:
    """Rule, severity, time and an entity are there, and what the payload does not say is labelled as ours."""
    found = alerts((shared_data / "alerts" / path).read_bytes())
    assert len(found) == COUNTS.get(path, 1)
    for one in found:
        assert one.source == MAPPING_OF_FOLDER[path.split("/", 1)[0]]
        assert one.uid
        assert one.title
        assert not one.title.startswith("Unrecognised")
        assert one.rule.name
        assert Severity.from_score(one.severity_score) is one.severity
        assert ("soar.severity_source" in one.labels) == (path in WITHOUT_SEVERITY)
        assert ("soar.time_source" in one.labels) == (path in WITHOUT_TIME)
        assert (one.time == NOW) == (path in WITHOUT_TIME)
        assert bool(one.entities.count()) == (path not in WITHOUT_ENTITIES)
        assert one.raw


@pytest.mark.parametrize("path", PATHS)
def test_an_unsplit_alert_keeps_its_payload(shared_data: Path, path: str) -> None:
    """`raw` is what the product sent; only integers that canonical JSON cannot hold have become text."""
    document = sample(shared_data, path)
    if isinstance(document, list) or path in COUNTS or document.keys() & {"Message", "alerts"}:
        return
    assert json.dumps(alert(document).raw) == json.dumps(_spelled_out(document))


def _spelled_out(value: object) -> object:
    if isinstance(value, dict):
        return {key: _spelled_out(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spelled_out(item) for item in value]
    return str(value) if isinstance(value, int) and abs(value) >= 1 << 53 else value


# path, (severity, score), (rule id, rule name), time, the entity that matters
FACTS = [
    ("aws-cloudwatch/high-cpu-usage.json", ("medium", 50), ("HighCPUUsage", "HighCPUUsage"), None, None),
    ("aws-cloudwatch/high-memory-usage.json", ("high", 70), ("HighMemoryUsage", "HighMemoryUsage"), None, None),
    (
        "aws-guardduty/aws-guardduty-high-sev-findings-high-sev-finding.json",
        ("high", 70),  # GuardDuty's 8 is high; a straight tenth-to-hundred scale would say critical
        ("PrivilegeEscalation:IAMUser/AdministrativePermissions",) * 2,
        "2020-02-14T18:12:22.316000Z",
        ("resources", "id", "arn:aws:iam::123456789012:role/IAMRole"),
    ),
    (
        "aws-guardduty/aws-guardduty-low-sev-findings-low-sev-finding.json",
        ("low", 20),
        ("PrivilegeEscalation:IAMUser/AdministrativePermissions",) * 2,
        "2020-02-14T18:12:22.316000Z",
        ("resources", "account", "123456789012"),
    ),
    (
        "aws-securityhub/eventbridge-afsbp-iam-3.json",
        ("medium", 50),
        ("IAM.3", "IAM.3 IAM users' access keys should be rotated every 90 days or less"),
        "2022-01-24T14:16:33.642000Z",
        ("users", "name", "test-admin2"),
    ),
    (
        "aws-securityhub/decoy-s3-accessed-s3-decoy-accessed.json",
        ("high", 70),
        ("s3.amazonaws.com", "Suspicious activity detected accessing private decoy S3 bucket panther-databucket"),
        "2024-05-24T00:26:57Z",
        ("ips", "address", "111.111.111.111"),
    ),
    (
        "cortex-xdr/incident-extra-data.json",
        ("medium", 50),
        (None, "Local Analysis Malware"),
        "2019-12-08T12:08:29.185000Z",
        ("hosts", "ip", "1.1.1.1"),  # written as "1.1.1.1."
    ),
    (
        "cortex-xdr/incident.json",
        ("medium", 50),
        (
            None,
            "'Local Analysis Malware' generated by XDR Agent detected on host AAAAA involving user Administrator",
        ),
        "2019-12-08T12:08:29.185000Z",
        ("hosts", "name", "AAAAA"),
    ),
    (
        "crowdstrike-falcon/crowdstrike-detection-passthrough-low-severity-finding-fdrev.json",
        ("low", 30),
        (None, "Suspicious Activity"),
        "2021-03-24T18:19:49Z",
        ("hosts", "id", "0000000000bcd276ea01d5871c6603b6"),
    ),
    (
        "crowdstrike-falcon/crowdstrike-detection-summary-info-alert.json",
        ("informational", 10),
        (None, "Known Malware"),
        "2024-12-03T19:54:30Z",
        ("files", "sha256", "0000000000f07f39b17d8c446e27aea75de9f98bea195501e20ed433a7a25469"),
    ),
    (
        "crowdstrike-falcon/crowdstrike-admin-role-assigned-admin-role-assigned-single.json",
        ("medium", 50),
        ("grantUserRoles", "grantUserRoles"),
        "2024-07-22T21:32:49Z",
        ("users", "email", "peregrin.took@hobbiton.co"),
    ),
    (
        "falco/falcosidekick-readme-md-0.json",
        ("high", 70),
        ("Write below binary dir", "Write below binary dir"),
        "2019-05-17T15:31:56.746609Z",
        ("files", "path", "/bin/hack"),
    ),
    (
        "google-chronicle/listalerts-response.json",
        ("medium", 50),
        (None, "Possible Bitsadmin Exfiltration"),
        "2019-12-30T18:49:33.923249Z",
        ("hosts", "name", "dc12"),
    ),
    (
        "grafana-alerting/grafana-12-test-payload.json",
        ("medium", 50),
        (None, "TestAlert"),
        "2026-05-05T13:04:57.622813Z",
        ("hosts", "name", "Grafana"),
    ),
    ("grafana-alerting/networklatencyishigh.json", ("informational", 10), (None, "Network Latency High"), None, None),
    (
        "ibm-qradar/offense-closed-0.json",
        ("low", 20),
        ("100406", "DJM"),
        "2020-02-27T15:10:07.921000Z",
        ("ips", "address", "1.2.3.4"),
    ),
    (
        "ibm-qradar/source-address-native.json",
        ("informational", 0),
        (None, "Source of offenses: 99.99.99.99"),
        "2023-04-24T14:44:29.220000Z",
        ("ips", "address", "99.99.99.99"),
    ),
    (
        "microsoft-entra-id/azure-risklevel-passthrough-failed-sign-in-with-riskleveldur.json",
        ("high", 70),
        ("ServicePrincipalSignInLogs", "Sign-in activity"),
        "2023-07-26T22:58:30.983201Z",
        ("users", "name", "some-service-principal"),
    ),
    (
        "microsoft-entra-id/azure-risklevel-passthrough-failed-sign-in-with-risklevelagg.json",
        ("low", 30),
        ("ServicePrincipalSignInLogs", "Sign-in activity"),
        "2023-07-26T22:58:30.983201Z",
        ("ips", "address", "12.12.12.12"),
    ),
    (
        "microsoft-graph-security/microsoft-graph-passthrough-password-spray-event-v2.json",
        ("high", 70),
        ("PasswordSpray", "Password Spray"),
        "2026-04-02T14:22:00.698000Z",
        ("users", "email", "homer.simpson@corporation.onmicrosoft.com"),
    ),
    (
        "microsoft-sentinel/incident-get.json",
        ("high", 70),
        ("fab3d2d4-747f-46a7-8ef0-9c0be8112bf7", "My incident"),
        "2019-01-01T13:05:30Z",
        None,
    ),
    (
        "ocsf-detection-finding/compliance-from-securityhub.json",
        ("medium", 50),
        ("Config.1", "PCI.Config.1 AWS Config should be enabled"),
        "2023-07-21T18:11:53.060000Z",
        ("resources", "id", "AWS::::Account:111111111111"),
    ),
    (
        "ocsf-detection-finding/from-falco.json",
        ("medium", 50),
        (None, "Linux Kernel Module Injection Detected"),
        "2023-01-03T15:11:39.558000Z",
        ("hosts", "name", "host0.local"),
    ),
    (
        "ocsf-detection-finding/from-qradar-offense.json",
        ("high", 70),
        ("100079", "Network DoS Attack Detected"),
        "2023-04-24T14:44:23.218000Z",
        ("ips", "role", "source"),
    ),
    (
        "ocsf-detection-finding/prowler-gcp.json",
        ("medium", 50),
        ("apikeys_key_exists", "Ensure API Keys Only Exist for Active Services"),
        "2025-02-14T13:27:20Z",  # epoch seconds
        ("resources", "type", "API Key"),
    ),
    (
        "okta/okta-threatinsight-security-threat-detected-threat-detected-.json",
        ("high", 70),  # the worst of the grades inside the JSON text; the log level says only WARN
        ("security.threat.detected", "Request from suspicious actor"),
        "2022-12-14T19:16:32.015000Z",
        ("ips", "address", "1.2.3.4"),
    ),
    (
        "okta/okta-admin-role-assigned-super-admin-access-assigned-high-se.json",
        ("informational", 10),
        ("user.account.privilege.grant", "Grant user privilege"),
        "2020-11-25T21:27:03.496000Z",
        ("users", "name", "jack@acme.io"),
    ),
    (
        "prometheus-alertmanager/webhook-v4-firing-two-alerts.json",
        ("critical", 90),
        ("High CPU Temperature", "High CPU Temperature"),
        "2020-02-06T00:17:58.432911Z",
        ("hosts", "name", "andromeda"),
    ),
    (
        "suricata-eve/eve-json-format-0.json",
        ("medium", 50),
        ("2018358", "ET HUNTING GENERIC SUSPICIOUS POST to Dotted Quad with Fake Browser 1"),
        "2017-04-07T21:24:37.251547Z",
        ("ips", "address", "192.168.2.14"),
    ),
    (
        "suricata-eve/eve-json-format-1.json",
        ("high", 70),  # inverted: 1 is the most severe
        ("2045001", "ET ATTACK_RESPONSE Win32/LeftHook Stealer Browser Extension Config Inbound"),
        "2023-09-18T06:13:41.532140Z",
        ("urls", "url", "http://142.11.240.191/"),
    ),
    (
        "thinkst-canary/thinkst-canary-incident-canary-incident.json",
        ("high", 70),
        ("smbfileopen", "Shared File Opened"),
        "2024-05-30T08:55:35Z",
        ("users", "name", "guest"),
    ),
    (
        "wazuh-4/read-valid-json-alert.json",
        ("medium", 52),  # level 10 of 0-15
        ("5712", "sshd: brute force trying to get access to the system. Non existent user."),
        "2022-05-11T12:29:19.905000Z",
        ("users", "name", "paco"),
    ),
    (
        "wiz/wiz-defend-passthrough-high-severity-alert.json",
        ("high", 70),
        ("cer-awsguardduty-recon-ec2-portprobeunprotectedport", "Recon:EC2/PortProbeUnprotectedPort"),
        "2025-10-23T23:15:59.818948Z",
        ("ips", "role", "attacker"),
    ),
    (
        "wiz/wiz-issue-alert-passthrough-low-severity-open-alert.json",
        ("low", 30),  # the issue's, not its control's
        ("cer-awsguardduty-recon-ec2-portprobeunprotectedport", "Recon:EC2/PortProbeUnprotectedPort"),
        "2025-07-25T13:09:25.306109Z",
        ("resources", "name", "jenkins-aws"),
    ),
    (
        "zeek-notice/ssl-invalid-server-cert-docs.json",
        ("medium", 50),
        ("SSL::Invalid_Server_Cert", "SSL::Invalid_Server_Cert"),
        "2021-01-04T04:59:23.038713Z",
        ("ips", "address", "192.168.4.129"),  # "id.orig_h" is a key with a dot
    ),
]


@pytest.mark.parametrize(("path", "severity", "rule", "time", "entity"), FACTS, ids=[fact[0] for fact in FACTS])
def test_the_facts_of_a_sample(
    shared_data: Path,
    path: str,
    severity: tuple[str, int],
    rule: tuple[str | None, str],
    time: str | None,
    entity: tuple[str, str, str] | None,
) -> None:
    """What an analyst reads in the payload is what the Alert says."""
    first = alerts((shared_data / "alerts" / path).read_bytes())[0]
    document = first.model_dump(mode="json")
    assert (first.severity, first.severity_score) == severity
    assert (first.rule.id, first.rule.name) == rule
    assert document["time"] == (time or NOW.isoformat().replace("+00:00", "Z"))
    if entity:
        kind, field, value = entity
        assert value in [item[field] for item in document["entities"][kind]]


def test_every_product_has_a_sample_whose_facts_are_checked() -> None:
    assert {fact[0].split("/", 1)[0] for fact in FACTS} == MAPPING_OF_FOLDER.keys()


def test_chronicle_keeps_the_asset_of_each_of_its_alerts(shared_data: Path) -> None:
    found = alerts(sample(shared_data, "google-chronicle/listalerts-response.json"))
    hosts = [one.entities.hosts[0].name for one in found]
    assert hosts == ["dc12", "dc12", "david-lee-laptop", "david-lee-laptop", "shannon-pc"]
    assert len({one.uid for one in found}) == 5


def test_an_analyst_who_owns_an_incident_is_no_entity(shared_data: Path) -> None:
    """A playbook that disables an alert's users must not disable the analyst."""
    one = alert(sample(shared_data, "microsoft-sentinel/incident-get.json"))
    assert one.entities.users == ()
    assert one.labels["owner"] == "john@contoso.com"


def test_observables_follow_from_entities(shared_data: Path) -> None:
    one = alert(sample(shared_data, "cortex-xdr/incident-extra-data.json"))
    assert one.observables.ip == ("1.1.1.1",)
    assert one.observables.hostname == ("AAAAAA",)
    assert one.observables.sha256 == ("8d5aec85593c85ecdc8d5ac601e163a1cc26d877f88c03e9e0e94c9dd4a38fca",)


def test_attack_ids_are_taken_out_of_longer_texts(shared_data: Path) -> None:
    one = alert(sample(shared_data, "wiz/wiz-defend-passthrough-high-severity-alert.json"))
    assert one.attack.tactics == ("TA0043", "TA0007")
    assert one.attack.techniques == ("T1595", "T1046")


def test_hashes_of_zeros_are_no_hashes(shared_data: Path) -> None:
    path = "crowdstrike-falcon/crowdstrike-detection-summary-low-alert.json"
    assert alert(sample(shared_data, path)).entities.files[0].sha1 is None
