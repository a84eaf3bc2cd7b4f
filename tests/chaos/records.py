"""What is produced to the topic: alerts, repeats of them, and whatever a stranger may send instead of one.

Every record says in a header what must become of it, for the ledger to read; soar looks at no header. `a|b` is either,
`a+b` both. Of records with one value, one has the outcome and the others are duplicates.
"""

import gzip
import itertools
import json
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

EXPECTED, FAULT, NUMBER = "chaos-expected", "chaos-fault", "chaos-number"
"""Names of headers."""
HUGE_BYTES = (1 << 20) + 1
_REPEATED_FROM = 500


class Made(NamedTuple):
    """One record to produce."""

    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    expected: str
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Parts of the whole: what starts runs, what starts runs that meet a slow product, what is malformed."""

    acting: float = 0.02
    slow: float = 0.0
    malformed: float = 0.0
    repeated: float = 0.01


class Alerts:
    """Alerts as JSON, no two alike."""

    def __init__(self, tag: str, rng: random.Random) -> None:
        self._tag = tag
        self._rng = rng
        self._numbers = itertools.count(1)

    def make(self, rule: str, /, **more: object) -> dict[str, object]:
        name = f"{self._tag}-{rule}-{next(self._numbers)}"
        address = f"10.{self._rng.randrange(256)}.{self._rng.randrange(256)}.{self._rng.randrange(256)}"
        return {
            "id": name, "rule": rule, "title": name, "host": name, "source_ip": address,
            "severity": self._rng.choice(("low", "medium", "high")), "description": "x" * self._rng.randrange(200),
            **more,
        }  # fmt: skip

    def bytes(self, rule: str, /, **more: object) -> bytes:
        return json.dumps(self.make(rule, **more)).encode()


def records(tag: str, seed: int, mix: Mix) -> Iterator[Made]:
    """Without end, the same for the same seed."""
    rng = random.Random(seed)
    alerts = Alerts(tag, rng)
    earlier: deque[Made] = deque(maxlen=_REPEATED_FROM)
    kinds = ["light", "slow", "malformed", "repeated", "plain"]
    parts = [mix.acting, mix.slow, mix.malformed, mix.repeated]
    weights = list(itertools.accumulate([*parts, 1 - sum(parts)]))
    while True:
        kind = rng.choices(kinds, cum_weights=weights)[0]
        if kind == "malformed":
            yield malformed(rng, alerts)
        elif kind == "repeated" and earlier:
            yield rng.choice(earlier)
        else:
            rule = "plain" if kind == "repeated" else kind
            made = _made(alerts.bytes(rule), "no_match" if rule == "plain" else "matched")
            earlier.append(made)
            yield made


def malformed(rng: random.Random, alerts: Alerts) -> Made:
    """One of the ways in which a record is no alert, or hardly one."""
    fault = rng.choices(list(_FAULTS), [weight for weight, _ in _FAULTS.values()])[0]
    return _FAULTS[fault][1](rng, alerts)._replace(fault=fault)


def _made(value: bytes | None, expected: str, **headers: bytes) -> Made:
    return Made(value, tuple((name.replace("_", "-"), text) for name, text in headers.items()), expected)


def _dead(value: bytes | None, **headers: bytes) -> Made:
    return _made(value, "dead_letter", **headers)


def _truncated(rng: random.Random, alerts: Alerts) -> Made:
    whole = alerts.bytes("plain")
    return _dead(whole[: rng.randrange(1, len(whole))])


def _flipped(rng: random.Random, alerts: Alerts) -> Made:
    """A few bytes are others: often no JSON any more, sometimes an alert all the same."""
    value = bytearray(alerts.bytes("plain"))
    for _ in range(rng.randint(1, 4)):
        value[rng.randrange(len(value))] = rng.randrange(256)
    return _made(bytes(value), "no_match|dead_letter")


def _not_text(rng: random.Random, alerts: Alerts) -> Made:
    value = alerts.bytes("plain")
    at = rng.randrange(1, len(value))
    return _dead(value[:at] + rng.choice((b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\x80")) + value[at:])


def _no_object(rng: random.Random, alerts: Alerts) -> Made:
    others = (b"null", b"42", b'"text"', b"true", b"[]", b"[7]", b"[[]]", b"NaN", b"{]", b" ", b'{"a":1e999}')
    return _dead(rng.choice((*others, b'{"id":1,"id":2}', b'{"n":%s}' % (b"9" * 500))))


def _wrong_types(rng: random.Random, alerts: Alerts) -> Made:
    """JSON, but nothing is what its name says."""
    odd = (None, [], {}, [[1]], {"a": [None]}, True, -1, 1e300, 2**70, "\ud800", "\0", "x" * 5000)
    names = ("title", "severity", "description", "source_ip", "host", "time", "rule")
    fields = {name: rng.choice(odd) for name in rng.sample(names, rng.randint(1, len(names)))}
    return _made(alerts.bytes("plain", **fields), "no_match|dead_letter")


def _deep(rng: random.Random, alerts: Alerts) -> Made:
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    depth = rng.randint(65, 600)
    return _dead(opening * depth + b"1" + closing * rng.choice((0, depth)))


def _huge(rng: random.Random, alerts: Alerts) -> Made:
    return _dead(alerts.bytes("plain", padding="a" * HUGE_BYTES))


def _framed(rng: random.Random, alerts: Alerts) -> Made:
    """As a schema registry's clients frame Avro."""
    return _dead(b"\0" + rng.randrange(1, 2**31).to_bytes(4, "big") + b"\x02" + rng.randbytes(rng.randrange(60)))


def _compressed(rng: random.Random, alerts: Alerts) -> Made:
    """Somebody compressed the value by himself, and perhaps broke it."""
    value = gzip.compress(alerts.bytes("plain"), 1, mtime=0)
    return _dead(value[: rng.choice((len(value), rng.randrange(2, len(value))))], content_encoding=b"gzip")


def _empty(rng: random.Random, alerts: Alerts) -> Made:
    return _dead(b"")


def _tombstone(rng: random.Random, alerts: Alerts) -> Made:
    return _dead(None)


def _event(rng: random.Random, alerts: Alerts) -> Made:
    """A CloudEvent whose data cannot be read."""
    event = alerts.make("plain") | {"specversion": "1.0", "source": "/x", "type": "t"}
    data = rng.choice(("!", "AAA", "e30K!", "bm8ganNvbg==", "/w=="))
    return _dead(json.dumps(event | {"data_base64": data}).encode(), content_type=b"application/cloudevents+json")


def _mislabelled(rng: random.Random, alerts: Alerts) -> Made:
    """An alert below the headers of a CloudEvent that is none."""
    wrong = rng.choice((b"\xff\xfe", b"", b"0.0", b"1.0\r\nx: y"))
    return _made(alerts.bytes("plain"), "no_match", ce_specversion=wrong, ce_id=b"", content_type=b"application/avro")


def _broken_line(rng: random.Random, alerts: Alerts) -> Made:
    """Two alerts, one to a line, of which the second is cut off."""
    second = alerts.bytes("plain")
    cut = second[: rng.randrange(2, len(second))]
    return _made(alerts.bytes("plain") + b"\n" + cut, "no_match+dead_letter")


_FAULTS: Mapping[str, tuple[float, Callable[[random.Random, Alerts], Made]]] = MappingProxyType(
    {
        "truncated": (1, _truncated),
        "flipped": (1, _flipped),
        "not_text": (1, _not_text),
        "no_object": (1, _no_object),
        "wrong_types": (1, _wrong_types),
        "deep": (1, _deep),
        "huge": (0.01, _huge),
        "framed": (1, _framed),
        "compressed": (1, _compressed),
        "empty": (0.5, _empty),
        "tombstone": (0.5, _tombstone),
        "event": (1, _event),
        "mislabelled": (1, _mislabelled),
        "broken_line": (1, _broken_line),
    }
)
