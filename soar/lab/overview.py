"""The lab's page for people: what was done to the range, read-only, without scripts.

Everything on it may come from an attacker by way of an alert, so every value passes through `html.escape`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from importlib.resources import files
from operator import itemgetter
from typing import Any

_SECONDS = 3  # between two looks
_SHOWN = 50  # rows of one card, newest first
_COLOURS = {"critical": "red", "high": "red", "medium": "amber", "low": "blue", "open": "amber", "closed": "green"}


def overview(state: dict[str, Any], recent: list[dict[str, Any]], faults: dict[str, Any]) -> str:
    """The whole page as HTML."""
    style = files("soar.lab").joinpath("overview.css").read_text(encoding="utf-8")
    requests = _card("Requests", "/_log", recent, _request, "Nobody has asked for anything yet.", wide=True)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>soar lab</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{_SECONDS}"><style>{style}</style></head><body>'
        f"<header><h1>soar lab</h1><p>A small range on this machine. What soar does to it shows here within "
        f'{_SECONDS} seconds.</p><ul class="figures">{_figures(state, faults)}</ul></header>'
        f"<main>{''.join(_cards(state))}{requests}</main></body></html>"
    )


def _figures(state: dict[str, Any], faults: dict[str, Any]) -> str:
    figures = {
        "tickets open": sum(ticket["status"] != "closed" for ticket in state["desk"]["tickets"].values()),
        "hosts isolated": sum(host["isolated"] for host in state["edr"]["hosts"].values()),
        "users disabled": sum(not user["enabled"] for user in state["idp"]["users"].values()),
        "addresses blocked": len({rule["ip"] for rule in state["firewall"]["rules"]}),
        "messages sent": len(state["chat"]["messages"]),
        "pages sent": len(state["chat"]["pages"]),
        "fault switches on": len(faults),
    }
    return "".join(f"<li><b>{count}</b> {name}</li>" for name, count in figures.items())


def _cards(state: dict[str, Any]) -> Iterable[str]:
    yield _card("Ticket desk", "/desk", state["desk"]["tickets"].values(), _ticket, "No tickets.")
    said = sorted([*state["chat"]["pages"], *state["chat"]["messages"]], key=itemgetter("at"))
    yield _card("Chat and pages", "/chat", said, _message, "All quiet.")
    hosts = sorted(state["edr"]["hosts"].values(), key=itemgetter("isolated"))
    yield _card("Endpoints", "/edr", [*state["edr"]["blocked"], *hosts], _endpoint, "No hosts.")
    users = sorted(state["idp"]["users"].values(), key=itemgetter("enabled"), reverse=True)
    yield _card("Identity provider", "/idp", users, _user, "No users.")
    yield _card("Firewall", "/firewall", state["firewall"]["rules"], _rule, "No address is blocked.")
    yield _card("Mailboxes", "/chat/mails", state["chat"]["mails"], _mail, "No mail is left.")


def _request(line: dict[str, Any]) -> str:
    detail = f"{line['method']} /{line['system']}{line['path']}" + (f" fault: {line['fault']}" if line["fault"] else "")
    effect = line["effect"] or ("repeat of an answered request" if line["duplicate"] else "changed nothing")
    return _row(str(line["status"] or "cut"), _status_colour(line), effect, detail, line["at"])


def _status_colour(line: dict[str, Any]) -> str:
    if line["status"] is None or line["status"] >= 400:
        return "red"
    return "green" if line["applied"] else ""


def _ticket(ticket: dict[str, Any]) -> str:
    remarks = len(ticket["comments"])
    detail = f"{ticket['key']} {ticket['status']}" + (f", {remarks} comment{'s' * (remarks != 1)}" if remarks else "")
    colour = "green" if ticket["status"] == "closed" else _COLOURS.get(ticket["severity"], "")
    return _row(ticket["severity"], colour, ticket["title"], detail, ticket["created"], name=ticket["key"])


def _message(message: dict[str, Any]) -> str:
    if "summary" in message:
        return _row("page", "red", message["summary"], message["severity"], message["at"])
    return _row(message["channel"], _COLOURS.get(message["severity"], ""), message["text"], "", message["at"])


def _endpoint(thing: dict[str, Any]) -> str:
    if "host" not in thing:
        return _row("blocked", "red", thing["value"], thing["type"])
    word, colour = ("isolated", "red") if thing["isolated"] else ("connected", "green")
    return _row(word, colour, thing["host"], f"{thing['role']}, {thing['os']}")


def _rule(rule: dict[str, Any]) -> str:
    return _row("blocked", "red", rule["ip"], f"{rule['id']} {rule['reason']}", rule["at"])


def _mail(mail: dict[str, Any]) -> str:
    return _row("mail", "", mail["subject"], f"{mail['sender']} to {', '.join(mail['to'])}")


def _user(user: dict[str, Any]) -> str:
    word, colour = ("enabled", "green") if user["enabled"] else ("disabled", "red")
    return _row(word, colour, user["user"], f"{user['title']}, {user['sessions']} sessions")


def _row(tag: str, colour: str, title: str, detail: str = "", at: str = "", *, name: str = "") -> str:
    """One line of a card; `at` shows as its time of day in UTC, `name` is what a link's `#` points at."""
    anchor = f' id="{escape(name)}"' if name else ""
    label = f'<span class="tag {colour}">{escape(tag)}</span>'
    below = f"<div>{escape(detail)}</div>" if detail else ""
    clock = f"<time>{escape(at[11:19])}</time>" if at else ""
    return f'<li{anchor}>{label}<div class="what">{escape(title)}{below}</div>{clock}</li>'


def _card(
    title: str,
    path: str,
    things: Iterable[dict[str, Any]],
    row: Callable[[dict[str, Any]], str],
    empty: str,
    *,
    wide: bool = False,
) -> str:
    """One card, the newest thing on top."""
    newest = list(things)[::-1]
    rows = "".join(map(row, newest[:_SHOWN]))
    body = f'<ul class="rows">{rows}</ul>' if rows else f'<p class="empty">{empty}</p>'
    return (
        f"<section{' class=wide' if wide else ''}><header><h2>{title}</h2>"
        f"<span>{len(newest)} <code>{path}</code></span></header>{body}</section>"
    )
