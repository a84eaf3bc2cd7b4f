"""Malformed playbooks: every error at once, each with its exact place and what to do about it."""

from pathlib import Path

import pytest

from soar.library.lint import lint
from soar.library.parse import parse

CORPUS = Path(__file__).with_name("malformed.txt").read_text().split("\n\n")[1:]
HEAD = "playbook: p\ndescription: d\nowner: o\n"


def split(case):
    """The playbook and the errors of a case."""
    lines = case.rstrip("\n").split("\n")
    body = [line for line in lines if not line.startswith("=> ")]
    expected = [line.removeprefix("=> ") for line in lines if line.startswith("=> ")]
    if body and body[0] == "whole file:":
        return "\n".join(body[1:]), expected
    return HEAD + "\n".join(body), expected


@pytest.mark.parametrize("case", CORPUS)
def test_every_error_is_reported_with_its_place_and_remedy(case, everything):
    text, expected = split(case)
    found = lint(parse(text, "p.yaml"), everything, ["other"])
    assert expected
    assert [str(error).removeprefix("p.yaml:").strip() for error in found] == expected


def test_the_corpus_is_large():
    assert len(CORPUS) >= 60


def test_no_message_shows_the_words_of_a_library_or_of_python():
    said = "\n".join(message for case in CORPUS for message in split(case)[1])
    for word in ("pydantic", "Input should", "<Severity", "Expecting", "NoneType", "Traceback"):
        assert word not in said
