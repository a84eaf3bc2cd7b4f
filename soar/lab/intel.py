"""The enrichment service, and the small SIEM beside it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, ClassVar

from pydantic import Field

from soar.lab.edr import IndicatorName
from soar.lab.exchange import Answer, Nothing, System, refuse, route
from soar.model.base import Frozen, from_rfc3339, to_rfc3339

_AGO = re.compile(r"-(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Verdict(Frozen):
    """What is known of a value: votes of ten scanners, and a score from 0 (harmless) to 100."""

    type: str
    value: str
    known: bool = False
    malicious: int = 0
    suspicious: int = 0
    score: int = 0
    tags: tuple[str, ...] = ()


class AlertChange(Frozen):
    """A new state for an alert of the SIEM."""

    status: str = Field(min_length=1)
    comment: str = ""


class Search(Frozen):
    """Events that hold all the words, between two times: RFC 3339, `now`, or `-15m` (s, m, h, d) back from now."""

    query: str = ""
    earliest: str = "-24h"
    latest: str = "now"
    limit: int = Field(default=100, ge=1, le=10_000)


def _bad(kind: str, value: str, *tags: str) -> Verdict:
    return Verdict(type=kind, value=value, known=True, malicious=9, suspicious=1, score=95, tags=tags)


def _odd(kind: str, value: str, *tags: str) -> Verdict:
    return Verdict(type=kind, value=value, known=True, malicious=1, suspicious=5, score=55, tags=tags)


def _good(kind: str, value: str, *tags: str) -> Verdict:
    return Verdict(type=kind, value=value, known=True, tags=tags)


# The hashes are those of the EICAR test file (eicar.org), which every scanner knows and which harms nobody.
# Addresses are from the documentation ranges of RFC 5737 and RFC 3849, names from RFC 2606 and RFC 6761.
VERDICTS = (
    _bad("sha256", "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f", "eicar"),
    _bad("sha1", "3395856ce81f2b7382dee72602f798b642f14140", "eicar"),
    _bad("md5", "44d88612fea8a8f36de82e1278abb02f", "eicar"),
    _bad("ip", "203.0.113.66", "botnet", "c2"),
    _bad("ip", "198.51.100.23", "brute-force"),
    _bad("ip", "2001:db8::bad", "c2"),
    _bad("domain", "malware.example", "c2"),
    _bad("domain", "login-verify.test", "phishing"),
    _bad("url", "http://login-verify.test/keep", "phishing"),
    _bad("email", "it-support@login-verify.test", "phishing"),
    _odd("ip", "192.0.2.44", "anonymiser"),
    _odd("domain", "files.example", "file-sharing"),
    _good("ip", "192.0.2.1", "own-gateway"),
    _good("domain", "range.test", "own-domain"),
)

# Seconds ago, then the event. They move with the clock, so that a search of the last day always finds them.
EVENTS: tuple[tuple[int, dict[str, str]], ...] = (
    (300, {"event": "logon_failed", "host": "srv-web-02", "user": "svc-backup", "src_ip": "198.51.100.23"}),
    (310, {"event": "logon_failed", "host": "srv-web-02", "user": "svc-backup", "src_ip": "198.51.100.23"}),
    (900, {"event": "mail_received", "user": "alice", "sender": "it-support@login-verify.test"}),
    (1800, {"event": "dns_query", "host": "ws-17", "user": "alice", "domain": "login-verify.test"}),
    (3600, {"event": "process_start", "host": "ws-17", "user": "alice", "process": "powershell.exe -enc"}),
    (3900, {"event": "connection", "host": "ws-17", "user": "alice", "dest_ip": "203.0.113.66"}),
    (7200, {"event": "logon", "host": "ws-23", "user": "bob", "src_ip": "192.0.2.44"}),
    (90_000, {"event": "logon", "host": "dc-01", "user": "carol", "src_ip": "192.0.2.1"}),
    (200_000, {"event": "backup_finished", "host": "srv-db-01", "user": "svc-backup"}),
)


class Intel(System):
    """Looking up changes nothing; an alert nobody told it of is filed when its state is first set."""

    name: ClassVar[str] = "intel"

    def __init__(self) -> None:
        super().__init__()
        self.verdicts = {(verdict.type, verdict.value): verdict for verdict in VERDICTS}
        self.alerts: dict[str, AlertChange] = {}

    def snapshot(self) -> dict[str, Any]:
        """States of alerts by id."""
        return {"alerts": {name: alert.model_dump() for name, alert in self.alerts.items()}}

    @route("GET", "/indicators", takes=IndicatorName)
    def look_up(self, given: IndicatorName) -> Answer:
        """The verdict on one value; case does not matter, except in a URL."""
        value = given.value if given.type == "url" else given.value.lower()
        known = self.verdicts.get((given.type, value), Verdict(type=given.type, value=given.value))
        return Answer(body=known.model_copy(update={"value": given.value}).model_dump(mode="json"))

    @route("GET", "/events", takes=Search)
    def search(self, given: Search) -> Answer:
        """Events, newest first; a word `field=value` must match a field exactly, any other any field in part."""
        try:
            earliest, latest = _moment(given.earliest, self.now), _moment(given.latest, self.now)
        except ValueError as error:
            return refuse(422, str(error))
        rows = [
            {"time": to_rfc3339(at), **event}
            for ago, event in EVENTS
            if earliest <= (at := self.now - timedelta(seconds=ago)) <= latest and _holds(event, given.query)
        ]
        return Answer(body={"rows": rows[: given.limit], "count": len(rows[: given.limit])})

    @route("GET", "/alerts/{alert}")
    def read_alert(self, _: Nothing, alert: str) -> Answer:
        """The state of one alert."""
        found = self.alerts.get(alert)
        return Answer(body={"id": alert, **found.model_dump()}) if found else refuse(404, f"no alert {alert!r}")

    @route("PATCH", "/alerts/{alert}", takes=AlertChange)
    def change_alert(self, given: AlertChange, alert: str) -> Answer:
        """Set the state of one alert."""
        changed = self.alerts.get(alert) != given
        self.alerts[alert] = given
        effect = f"set alert {alert} to {given.status}" if changed else None
        return Answer(body={"id": alert, **given.model_dump()}, effect=effect)


def _moment(text: str, now: datetime) -> datetime:
    if text == "now":
        return now
    if ago := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    return from_rfc3339(text)


def _holds(event: dict[str, str], query: str) -> bool:
    for word in query.casefold().split():
        field, equals, value = word.partition("=")
        if equals and event.get(field, "").casefold() != value.strip('"'):
            return False
        if not equals and not any(word in text.casefold() for text in event.values()):
            return False
    return True
