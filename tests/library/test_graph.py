"""Pictures of playbooks: well-formed, complete, and safe whatever a playbook says."""

import xml.etree.ElementTree as ET

import pytest

from soar.library.graph import mermaid, svg
from soar.library.parse import parse

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = """\
playbook: hostile
description: '</title><script>alert(1)</script>'
owner: o
steps:
  - {id: a, use: '"]; click n1 "javascript:alert(1)"', with: {}}
  - {if: "'<img src=x onerror=alert(1)>' == alert.title && `1`", then: [{stop: failed, message: '<b>&amp;'}]}
"""


def texts(picture):
    return [element.text for element in ET.fromstring(picture).iter(f"{SVG}text")]


def test_an_svg_shows_every_step_and_condition(whole):
    playbook = parse(whole, "whole.yaml").playbook
    shown = " ".join(texts(svg(playbook)))
    for words in (
        "whole",
        "source is any of okta",
        "host.isolate",
        "asks 2 of g first",
        "undone by host.release",
        "then",
    ):
        assert words in shown
    for words in (
        "else",
        "side by side",
        "for each user",
        "ask 1 of g",
        "if this fails",
        "if a step fails",
        "call other",
    ):
        assert words in shown


def test_boxes_stay_within_the_picture(whole):
    root = ET.fromstring(svg(parse(whole, "whole.yaml").playbook))
    width, height = float(root.get("width")), float(root.get("height"))
    for box in root.iter(f"{SVG}rect"):
        assert float(box.get("x", 0)) + float(box.get("width")) <= width
        assert float(box.get("y", 0)) + float(box.get("height")) <= height


def test_a_hostile_playbook_stays_text_in_svg():
    root = ET.fromstring(svg(parse(HOSTILE, "h.yaml").playbook))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "title", "style", "defs", "marker", "path", "rect", "text",
    }  # fmt: skip
    assert root.find(f"{SVG}title").text == "hostile: </title><script>alert(1)</script>"


@pytest.mark.parametrize("character", ['"', "]", ";", "<", ">", "&", "`"])
def test_a_hostile_playbook_stays_text_in_mermaid(character):
    lines = mermaid(parse(HOSTILE, "h.yaml").playbook).splitlines()
    assert lines[0] == "flowchart TD"
    for line in lines[1:]:
        quoted = line.split('"')[1] if '"' in line else ""
        assert line.count('"') in {0, 2}
        assert character not in quoted or character == ";"


def test_mermaid_joins_the_branches_again():
    text = """\
playbook: p
description: d
owner: o
steps:
  - if: alert.title
    then: [{id: a, set: {x: 1}}]
  - {id: z, stop: failed}
"""
    assert mermaid(parse(text, "p.yaml").playbook) == (
        "flowchart TD\n"
        '  n0(["p / called by other playbooks or by hand"])\n'
        '  n1{"if alert.title"}\n'
        "  n0 --> n1\n"
        '  n2["a: set x"]\n'
        '  n1 -->|"then"| n2\n'
        '  n3["z: stop: failed"]\n'
        "  n2 --> n3\n"
        '  n1 -->|"else"| n3\n'
        '  n4(["done"])\n'
    )
