"""A catalogue that offers every capability as one configured instance would, and a playbook with every form.

A property holds however slow the machine is: no deadlines.
"""

import pytest
from hypothesis import settings

from soar.connector.capabilities import CAPABILITIES
from soar.model.action import ActionSpec, Effect, Risk
from soar.model.catalogue import Catalogue, Offer

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

WHOLE = """\
playbook: whole
description: Every form once.
owner: soc
author: ada
mode: shadow
labels: {attack: [T1486]}
on:
  match:
    source: okta
    rule.id: [a, 5, true]
    severity: {at_least: high}
    severity_score: {at_least: 40, at_most: 90}
    title: {prefix: Ransom, suffix: [a, b], none_of: x, exists: true}
    observables.ip: {cidr: 10.0.0.0/8}
  where: length(entities.hosts) > `0`
  max_age: 1h30m
dedupe: {key: rule.id, within: 30m, mode: {threshold: {count: 5}}}
lock: rule.id
vars: {limit: 5}
steps:
  - id: act
    use: host.isolate
    if: alert.title
    with: {host: "${{ alert.title }}"}
    retry: {attempts: 4, backoff: {from: 2s, to: 60s}, on: [timeout]}
    timeout: 20s
    on_error: continue
    approval: {groups: [{group: g, min: 2}], expires: 30m, on_expire: deny, escalate: {after: 15m, to: h}}
    verify: {use: host.status, until: result.isolated, within: 5m}
    undo: {use: host.release, after: 24h}
  - if: alert.title
    then: [{stop: failed, message: bye}]
    else: [{set: {a: 1}}]
  - switch: alert.severity
    cases: {high: [{wait: 1m}], "5": [{wait: {for: 1m}}]}
    default: [{wait: {until: alert.time}}]
  - parallel: [{wait: {for_alert: {match: {source: x}}}, timeout: 1h}, {call: other, with: {a: 1}}]
  - foreach: alert.entities.users
    as: user
    limit: 5
    concurrency: 2
    do: [{ask: ok?, answer: choice, options: [a, b], groups: [{group: g}], expires: 1h}]
    on_error:
      - {id: sorry, stop: succeeded}
on_error: [{stop: failed}]
outputs: {done: "${{ steps.act.ok }}"}
"""

SCHEMALESS = ActionSpec(
    connector="http",
    verb="request",
    summary="Send anything.",
    effect=Effect.UNSAFE,
    risk=Risk.NONE,
    params_schema={"type": "object", "additionalProperties": True},
    result_schema={"type": "object", "additionalProperties": True},
)


def offer(name: str, instance: str = "lab") -> Offer:
    capability = CAPABILITIES[name]
    spec = ActionSpec(
        connector="lab",
        verb=name.replace(".", "_"),
        summary=capability.summary,
        effect=Effect.IDEMPOTENT,
        risk=Risk.NONE,
        capability=name,
        params_schema=capability.params.model_json_schema(),
        result_schema=capability.result.model_json_schema(mode="serialization"),
    )
    return Offer(instance=instance, connector_version="1", spec=spec)


@pytest.fixture(scope="session")
def everything() -> Catalogue:
    """All capabilities bound, and one action that takes and gives what it likes."""
    return Catalogue(
        offers=(*map(offer, CAPABILITIES), Offer(instance="http", connector_version="1", spec=SCHEMALESS)),
        bindings={"*": "lab"},
        capabilities=tuple(CAPABILITIES),
    )


@pytest.fixture
def nothing_bound() -> Catalogue:
    """As installed, before anything is configured."""
    return Catalogue(capabilities=tuple(CAPABILITIES))


@pytest.fixture
def whole() -> str:
    """A playbook with every form and every key."""
    return WHOLE
