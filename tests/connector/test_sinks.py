"""Encoders: whatever an attacker writes arrives as inert text, and what a person should read stays readable."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soar.connector.sinks import jira_adf, one_line, path_segment, plain_text, quoted, slack_mrkdwn
from soar.errors import RejectedError

HOSTILE = [
    "<!channel> <@U123> <https://evil.example|click>",
    '" | delete index=main | search "',
    'x\\" OR 1=1 --',
    "a\x1b[2Jb\x00c\x9bd",
    "invoice\u202efdp.exe",
    "../../etc/passwd",
    "{{ 7*7 }} ${{ vars }} ${jndi:ldap://x}",
    "line one\nline two\r\nline three",
    "naïve 日本語 🔥",
    "lone \ud800 surrogate",
    "[text](javascript:alert(1)) {code}x{code} [~admin]",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_plain_text_holds_no_control_bidi_or_lone_surrogate(value):
    text = plain_text(value)
    text.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", text)


def test_plain_text_keeps_what_people_read():
    assert plain_text("naïve 日本語 🔥\n\ttab") == "naïve 日本語 🔥\n\ttab"
    assert plain_text("x" * 100, limit=10) == "x" * 9 + "…"
    assert one_line("a\nb\t c") == "a b c"


@given(st.text())
def test_slack_text_has_no_angle_bracket_and_decodes_to_the_plain_text(value):
    text = slack_mrkdwn(value)
    assert "<" not in text
    assert ">" not in text
    assert text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == plain_text(value)


@given(st.text())
def test_an_adf_document_is_paragraphs_of_unmarked_text_nodes_only(value):
    document = jira_adf(value)
    assert document.keys() == {"type", "version", "content"}
    for paragraph in document["content"]:
        assert paragraph.keys() == {"type", "content"}
        assert paragraph["type"] == "paragraph"
        for node in paragraph["content"]:
            assert node.keys() == {"type", "text"}
            assert node["type"] == "text"
            assert node["text"]  # Jira refuses an empty text node


@given(st.text())
def test_a_quoted_literal_ends_where_it_was_meant_to(value):
    literal = quoted(value)
    assert re.fullmatch(r'"(?:[^"\\\n]|\\["\\])*"', literal)


@given(st.text(min_size=1))
def test_a_path_segment_stays_one_segment(value):
    if value in {".", ".."}:
        return
    assert re.fullmatch(r"(?:[A-Za-z0-9_.~-]|%[0-9A-F]{2})+", path_segment(value))


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_what_no_quoting_makes_a_segment_is_refused(value):
    with pytest.raises(RejectedError, match="URL path"):
        path_segment(value)
