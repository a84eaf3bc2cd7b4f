"""The schema for editors takes every playbook that parses, and marks the usual slips."""

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from soar.errors import PlaybookError
from soar.library.schema import playbook_schema
from soar.located import load

PLAYBOOKS = sorted((Path(__file__).parents[2] / "playbooks").glob("*.yaml"))
HEAD = "playbook: p\ndescription: d\nowner: o\n"


def valid(text):
    schema = playbook_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema).is_valid(load(text, "p.yaml", PlaybookError).value)


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_every_starter_fits(path):
    assert valid(path.read_text())


def test_a_playbook_with_every_form_fits(whole):
    assert valid(whole)


@pytest.mark.parametrize(
    "body",
    [
        "steps: []",
        "steps: [{ues: x}]",
        "steps: [{use: x, wiht: {}}]",
        "steps: [{then: [{stop: failed}]}]",
        "steps: [{wait: 10 minutes}]",
        "steps: [{wait: {untill: x}}]",
        "steps: [{stop: done}]",
        "steps: [{stop: failed, timeout: 1m}]",
        "steps: [{use: x, retry: {attempts: 99}}]",
        "stps: [{stop: failed}]",
        "steps: [{stop: failed}]\nmode: dry",
        "steps: [{stop: failed}]\non: {match: {title: {pattern: x}}}",
        "steps: [{stop: failed}]\ndedupe: {key: [a], within: 5m, mode: threshold}",
    ],
)
def test_the_usual_slips_do_not_fit(body):
    assert not valid(HEAD + body)
