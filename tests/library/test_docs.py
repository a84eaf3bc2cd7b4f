"""What the documentation shows is true: its examples lint clean, its list of functions and bounds is the real one."""

import re
from pathlib import Path

import pytest
from jmespath.functions import Functions

from soar.expr import bounds
from soar.expr.functions import known
from soar.library.forms import FORMS
from soar.library.lint import lint
from soar.library.parse import parse

TEXT = (Path(__file__).parents[2] / "docs" / "playbooks.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.split("\n")[0])
def test_every_example_lints_clean(everything, example):
    assert [str(error) for error in lint(parse(example, "docs.yaml"), everything, ["close-ticket"])] == []


def test_every_form_is_shown():
    shown = " ".join(EXAMPLES)
    assert all(f"{form}:" in shown for form in FORMS)


def test_our_functions_are_listed():
    listed = set(re.findall(r"`(\w+)\([^`]*\)`", TEXT.split("| function |")[1]))
    assert listed == set(known()) - set(Functions.FUNCTION_TABLE)


def test_the_bounds_are_the_real_ones():
    for bound in (bounds.MAX_WORK, bounds.MAX_TEXT, bounds.MAX_NODES, bounds.MAX_DEPTH):
        assert f"{bound:,}" in TEXT
