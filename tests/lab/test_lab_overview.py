"""The page for people shows what was done and runs nothing that came from outside."""

from html.parser import HTMLParser

import httpx
import pytest

from soar.lab import LabServer

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class _Tags(HTMLParser):
    """Every tag of a page with its attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"


async def test_the_page_needs_no_token_and_shows_effects(lab: LabServer, client: httpx.AsyncClient) -> None:
    await client.post("/desk/tickets", json={"title": "Ransomware on ws-17", "severity": "critical"})
    await client.post("/edr/hosts/ws-17/isolate")
    await client.post("/idp/users/alice/disable")
    await client.post("/chat/messages", json={"channel": "#soc", "text": "ws-17 is cut off"})
    await client.post("/chat/pages", json={"summary": "get up", "severity": "critical"})
    await client.post("/firewall/rules", json={"ip": "203.0.113.66", "reason": "c2"})
    async with httpx.AsyncClient(trust_env=False) as stranger:
        answer = await stranger.get(lab.url)
    page = _Tags(answer.text)
    for shown in ("Ransomware on ws-17", "isolated", "disabled", "ws-17 is cut off", "get up", "203.0.113.66"):
        assert shown in page.text
    assert ("li", {"id": "DESK-1"}) in page.tags, "a ticket's URL leads to its row"


@pytest.mark.parametrize("path", ["/", "/#DESK-1"])
async def test_nothing_that_came_from_outside_becomes_markup(
    lab: LabServer, client: httpx.AsyncClient, path: str
) -> None:
    await client.post("/desk/tickets", json={"title": HOSTILE, "severity": HOSTILE})
    await client.post("/chat/messages", json={"channel": HOSTILE, "text": HOSTILE, "severity": HOSTILE})
    await client.post("/chat/pages", json={"summary": HOSTILE, "severity": HOSTILE})
    await client.post("/chat/mails", json={"to": [HOSTILE], "subject": HOSTILE, "text": HOSTILE})
    await client.post("/edr/indicators", json={"type": "url", "value": HOSTILE})
    await client.post("/firewall/rules", json={"ip": "192.0.2.1", "reason": HOSTILE})
    await client.post("/edr/hosts/%3Cscript%3Ealert(1)%3C%2Fscript%3E/isolate")
    await client.post("/idp/users/%3Cscript%3Ealert(1)%3C%2Fscript%3E/disable")
    answer = await client.get(path)
    page = _Tags(answer.text)
    assert HOSTILE in page.text
    assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "object", "link"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


async def test_the_state_is_there_for_programs(lab: LabServer, client: httpx.AsyncClient) -> None:
    await client.post("/edr/hosts/ws-17/isolate")
    assert (await client.get("/_state")).json() == lab.snapshot()
