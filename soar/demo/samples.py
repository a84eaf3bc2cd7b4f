"""Sample alerts with times of today."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from importlib import resources
from typing import Any

from soar.errors import ConfigError
from soar.located import load
from soar.model.alert import Record
from soar.model.base import to_rfc3339
from soar.model.duration import parse_duration

_TIME = re.compile(r"\{\{now(?:-(\w+))?\}\}")


def samples(now: datetime, *, topic: str) -> list[Record]:
    """The samples as records of one delivery named `topic`, with times relative to `now`."""
    file = resources.files("soar.demo").joinpath("samples.yaml")
    items: list[dict[str, Any]] = load(file.read_text(), "samples.yaml", ConfigError).value
    bodies: list[bytes] = []
    for item in items:
        if "repeat" in item:
            bodies.append(bodies[item["repeat"]])
        else:
            text = item.get("text") or json.dumps(_unique(item["body"], topic))
            bodies.append(_timed(text, now).encode())
    return [
        Record(source="samples", topic=topic, offset=offset, value=body, received_at=now)
        for offset, body in enumerate(bodies)
    ]


def _timed(text: str, now: datetime) -> str:
    return _TIME.sub(lambda found: to_rfc3339(now - parse_duration(found[1] or "0s")), text)


def _unique(body: Any, topic: str) -> Any:
    """Ids that differ between deliveries, so that a later round is news and not a repeat."""
    mark = hashlib.sha256(topic.encode()).hexdigest()[:8]
    text = json.dumps(body).replace("demo-", f"demo-{mark}-")
    return json.loads(text)
