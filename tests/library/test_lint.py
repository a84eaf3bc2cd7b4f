"""What lint accepts, and what an unconfigured installation is told."""

import pytest

from soar.library.lint import lint
from soar.library.parse import parse

HEAD = "playbook: p\ndescription: d\nowner: o\n"


def linted(body, catalogue):
    return [error.message for error in lint(parse(HEAD + body, "p.yaml"), catalogue, [])]


@pytest.fixture
def errors(everything):
    return lambda body: linted(body, everything)


def test_an_unbound_capability_says_how_to_bind_it(nothing_bound):
    said = linted("steps: [{use: ticket.find, with: {query: x}}]", nothing_bound)
    assert said == ["capability 'ticket.find' is bound to no connector; add it under bindings: in soar.yaml"]


def test_an_action_without_declared_fields_takes_any(errors):
    body = """
steps:
  - {id: a, use: http.request, with: {any: thing}}
  - {if: steps.a.result.x.y, then: [{stop: failed}]}
"""
    assert errors(body) == []


def test_steps_are_seen_behind_every_block_that_may_have_run_them(errors):
    body = """
steps:
  - if: alert.title
    then: [{id: a, use: ticket.create, with: {title: x}}]
    else: [{id: b, use: ticket.create, with: {title: x}, on_error: [{id: c, use: ticket.find, with: {query: x}}]}]
  - parallel: [{id: d, use: ticket.find, with: {query: x}}, {id: e, use: ticket.find, with: {query: x}}]
  - switch: alert.source
    cases: {okta: [{id: f, set: {known: true}}]}
  - set: {known: "${{ vars.known && [steps.a, steps.b, steps.c, steps.d, steps.e, steps.f][].ok }}"}
"""
    assert errors(body) == []


def test_error_steps_see_the_step_that_failed_and_the_error_of_the_run(errors):
    body = """
steps:
  - id: a
    use: ticket.create
    with: {title: x}
    on_error: [{use: notify.send, with: {channel: c, text: "${{ steps.a.error }}"}}]
on_error: [{use: notify.send, with: {channel: c, text: "${{ vars.error.message }}"}}]
"""
    assert errors(body) == []


def test_an_element_and_its_index_are_seen_within_a_loop(errors):
    body = """
steps:
  - foreach: alert.observables.ip
    as: address
    do: [{use: ip.block, with: {ip: "${{ item.address }}", reason: "number ${{ item.index }}"}}]
"""
    assert errors(body) == []


def test_inputs_and_vars_are_variables(errors):
    body = """
inputs: {type: object, properties: {key: {type: string}}}
vars: {channel: soc}
steps: [{use: notify.send, with: {channel: "${{ vars.channel }}", text: "${{ vars.key }}"}}]
"""
    assert errors(body) == []


def test_undo_and_verify_inherit_the_params_of_their_action(errors):
    body = """
steps:
  - use: ip.block
    with: {ip: "192.0.2.1", reason: x}
    undo: {use: ip.unblock, after: 1h}
  - use: account.disable
    with: {user: a}
    verify: {use: account.get, until: "!(result.enabled)"}
"""
    assert errors(body) == []


def test_a_parse_error_is_reported_by_lint_too(errors):
    assert errors("steps: []") == ["'steps' is empty; add at least one"]
