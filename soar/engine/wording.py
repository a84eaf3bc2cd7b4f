"""Values, instants, groups and waits in words. Texts come from outside: whoever prints them makes them harmless."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from soar.model.approval import Approval, ApprovalState
from soar.model.base import from_rfc3339

_BRIEF = 160
_DIGEST_SHOWN = 12
_AWAITED = MappingProxyType(
    {
        "approval": "people",
        "answer": "people",
        "policy": "a decision of policy",
        "sent": "the answer to its call",
        "retry": "another try",
        "rate": "room under a rate",
        "recount": "a moment in which no other action comes between",
        "verify": "its effect to be seen",
        "readback": "another look at whether it happened",
        "begun": "what is within it",
        "happened": "a worker to go on with it",
    }
)


def brief(value: Any, limit: int = _BRIEF) -> str:
    """A value in few words: `name=value` for an object, JSON for the rest, cut at `limit` characters."""
    if isinstance(value, Mapping):
        return clip(" ".join(f"{name}={as_json(child)}" for name, child in value.items()), limit)
    return clip(as_json(value), limit)


def clip(text: str, limit: int) -> str:
    """The text, or its beginning and an ellipsis where it has more than `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def as_json(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def short_digest(digest: Any) -> str:
    """The beginning of a digest, long enough to tell it from others."""
    return str(digest)[:_DIGEST_SHOWN]


def moment(when: datetime | str) -> str:
    """An instant as people read it: to the second, in UTC."""
    at = from_rfc3339(when) if isinstance(when, str) else when
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def quorums(groups: Sequence[Mapping[str, Any]]) -> str:
    """Who must agree: `1 of ir-manager and 2 of soc-lead`."""
    return " and ".join(f"{each.get('min', 1)} of {each['group']}" for each in groups) or "nobody more"


def missing(approval: Approval) -> str:
    """Who must still agree."""
    return quorums([each.model_dump() for each in approval.unmet])


def escalation(stand_in: Mapping[str, Any]) -> str:
    """Who may decide in whose place: `ir-manager may take the place of 1 of soc-lead`."""
    if not stand_in.get("seats"):
        return f"{stand_in['group']} is told; all who must agree are asked by policy, so nobody may take their place"
    return f"{stand_in['group']} may take the place of {quorums(stand_in['seats'])}"


def awaited(data: Mapping[str, Any], approval: Approval | None = None) -> str:
    """What a waiting step with this `data` waits for, and until when; `approval` is the one that it names."""
    if approval is not None and approval.state is not ApprovalState.PENDING:
        return f"a worker to go on with it: {approval.id} is {approval.state}"
    if approval is not None:
        what = "an answer of" if "question" in approval.binding else "the consent of"
        return f"{what} {missing(approval)} until {moment(approval.decide_by)} ({approval.id})"
    match data.get("phase"):
        case "halted":
            return "actions to be let out again (soar resume)"
        case "alert":
            what = f"an alert with {_trigger(data)}"
        case "queued":
            what = f"its turn at {data.get('instance')}"
        case "call":
            what = f"sub-run {data.get('run_id')}"
        case phase:
            what = _AWAITED.get(str(phase), "its time")
    until = f" until {moment(data['until'])}" if "until" in data else ""
    why = f": {data['why']}" if data.get("why") else ""
    return f"{what}{until}{why}"


def _trigger(data: Mapping[str, Any]) -> str:
    trigger = data.get("trigger", {})
    where = {"where": trigger["where"]} if "where" in trigger else {}
    return brief({**trigger.get("match", {}), **where})
