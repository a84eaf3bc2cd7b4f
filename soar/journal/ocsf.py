"""Action outcomes as OCSF remediation activity (schema.ocsf.io, category 7), for a SIEM that reads it.

An action on files is class 7002, on processes 7003, on addresses 7004, and on anything else 7001.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from soar.model.base import from_rfc3339

VERSION = "1.3.0"
CATEGORY = 7
OTHER = 99

_CLASSES = MappingProxyType({"file": 7002, "process": 7003, "ip": 7004, "domain": 7004, "url": 7004})
_HASHES = MappingProxyType({"md5": (1, "MD5"), "sha1": (2, "SHA-1"), "sha256": (3, "SHA-256")})
_ISOLATE, _EVICT, _RESTORE = (1, "Isolate"), (2, "Evict"), (3, "Restore")  # tactics of D3FEND
_ACTIVITIES = MappingProxyType(
    {
        "isolate": _ISOLATE,
        "block": _ISOLATE,
        "quarantine": _ISOLATE,
        "disable": _EVICT,
        "revoke": _EVICT,
        "delete": _EVICT,
        "kill": _EVICT,
        "release": _RESTORE,
        "unblock": _RESTORE,
        "enable": _RESTORE,
    }
)
_STATUSES = MappingProxyType({"succeeded": (1, "Success"), "failed": (2, "Failure")})
_OBSERVABLES = MappingProxyType({"host": 1, "domain": 1, "ip": 2, "user": 4, "email": 5, "url": 6, "file": 7})
_OBSERVED_HASH, _OBSERVED_OTHER = 8, 99


def remediation(
    leaf: Mapping[str, Any],
    *,
    index: int,
    targets: Sequence[Mapping[str, Any]],
    command: str,
    policy: str,
    detail: str | None = None,
) -> dict[str, Any]:
    """The event of one `action.outcome`.

    `targets` are what the action acted on, as (type, id), empty where that was erased; `command` is the key under
    which it was sent; `policy` the revision that allowed it.
    """
    data = leaf["data"]
    action, state = str(data["action"]), str(data["state"])
    class_uid = next((_class_of(str(each["type"])) for each in targets), 7001)
    activity, activity_name = _activity(action.rpartition(".")[2])
    status, status_name = _STATUSES.get(state, (0, "Unknown"))
    event = {
        "category_uid": CATEGORY,
        "class_uid": class_uid,
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": class_uid * 100 + activity,
        "time": int(from_rfc3339(leaf["at"]).timestamp() * 1000),
        "severity_id": 1,
        "status_id": status,
        "status": status_name,
        "message": f"{action}: {state}",
        "command_uid": command,
        "metadata": {
            "version": VERSION,
            "product": {"name": "soar", "vendor_name": "soar"},
            "uid": leaf["id"],
            "correlation_uid": leaf.get("run", ""),
            "sequence": index,
        },
        "observables": list(_observables(targets)),
        "unmapped": {"actor": leaf["actor"], "action": action, "attempt": data["attempt"], "policy_revision": policy},
    }
    if activity != OTHER:
        event["countermeasures"] = [{"d3f_tactic": {"name": activity_name}}]
    if detail:
        event["status_detail"] = detail
    return event | _required_by(class_uid, targets)


def _class_of(kind: str) -> int:
    return 7002 if kind in _HASHES else _CLASSES.get(kind, 7001)


def _activity(verb: str) -> tuple[int, str]:
    return next((known for word, known in _ACTIVITIES.items() if word in verb.split("_")), (OTHER, verb))


def _required_by(class_uid: int, targets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the class asks for beyond the common attributes."""
    if class_uid == 7002:
        kind, name = str(targets[0]["type"]), str(targets[0]["id"])
        file: dict[str, Any] = {"name": name, "type_id": 0}
        if kind in _HASHES:
            number, algorithm = _HASHES[kind]
            file["hashes"] = [{"algorithm_id": number, "algorithm": algorithm, "value": name}]
        return {"file": file}
    if class_uid == 7003:
        return {"process": {"name": str(targets[0]["id"])}}
    return {"connection_info": {"direction_id": 0}} if class_uid == 7004 else {}


def _observables(targets: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for each in targets:
        kind = str(each["type"])
        known = _OBSERVED_HASH if kind in _HASHES else _OBSERVABLES.get(kind, _OBSERVED_OTHER)
        yield {"name": f"target.{kind}", "type_id": known, "value": str(each["id"])}
