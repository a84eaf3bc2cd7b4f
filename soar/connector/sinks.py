"""Encoders, one per sink: how a value that an attacker may have written becomes inert text for one product.

Nothing is dropped that a person should read; what would act (markup, mentions, operators, control characters)
is turned into text that does not.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from soar.errors import RejectedError

# C0 but tab and newline, C1, and the marks that reorder or hide text (Unicode TR36 2.5: bidi, zero width).
_ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def plain_text(value: str, *, limit: int = 30_000) -> str:
    """Text for people: newlines and tabs stay, control and bidi marks show as U+FFFD, the rest is cut at `limit`."""
    text = _ACTIVE.sub("\ufffd", value.replace("\r\n", "\n"))
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"


def one_line(value: str, *, limit: int = 250) -> str:
    """A title: plain text on one line."""
    return plain_text(" ".join(value.split()), limit=limit)


def slack_mrkdwn(value: str) -> str:
    """Text within a Slack message: `<!channel>`, links and mentions cannot form.

    Slack asks for `&`, `<`, `>` as entities (docs.slack.dev, "Formatting message text"); what is not within angle
    brackets mentions nobody.
    """
    return plain_text(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def jira_adf(value: str) -> dict[str, Any]:
    """An Atlassian document (ADF version 1) of paragraphs of text nodes: no mark, link or mention can form in it."""
    paragraphs = [part for part in plain_text(value).split("\n") if part.strip()]
    content = [{"type": "paragraph", "content": [{"type": "text", "text": part}]} for part in paragraphs]
    return {"type": "doc", "version": 1, "content": content or [{"type": "paragraph", "content": []}]}


def quoted(value: str) -> str:
    """A string literal in double quotes, for SPL and JQL: one value, whatever is in it; newlines become spaces.

    Both languages end the literal at a double quote and escape with a backslash (Splunk, "Search manual: quotes and
    escaping"; Atlassian, "JQL reserved characters").
    """
    text = re.sub(r"[\n\t]", " ", plain_text(value)).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def path_segment(value: str) -> str:
    """One segment of a URL path; raises RejectedError for what no quoting makes one: empty, `.` and `..`."""
    if value in {"", ".", ".."}:
        raise RejectedError(f"nothing was sent: {value!r} cannot be a part of a URL path")
    return quote(value, safe="", errors="replace")
