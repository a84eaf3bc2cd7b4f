"""The leaf: the bytes of one entry in the tree, and the salted payload beside it.

A leaf is canonical JSON (RFC 8785), small, public and kept for ever. The payload is named in it only as
`SHA-256(salt || payload)`: whoever destroys salt and payload leaves a leaf from which nothing can be guessed, and
every proof stands.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from soar.errors import JournalError
from soar.journal.merkle import leaf_hash
from soar.model.base import to_rfc3339
from soar.model.entry import Entry

LEAF_VERSION = 1
LEAF_BYTES_MAX = 65_535  # what the uint16 length in an entry bundle can say
SALT_BYTES = 32

_TEXT_FIELDS = frozenset({"id", "type", "at", "actor", "subject"})
_RUN_FIELDS = frozenset({"run", "run_seq", "run_prev"})
_REQUIRED = _TEXT_FIELDS | {"v", "data"}
_ALL = _REQUIRED | _RUN_FIELDS | {"payload"}
_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_HEX_HASH = re.compile(r"[0-9a-f]{64}")

# Not RFC 8785: that refuses the nanosecond times and 64-bit ids of real alerts. A payload's bytes are kept and hashed
# as they are, so they need no canonical form; sorted keys are for people who compare two of them.
_PAYLOAD = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


class Sealed(NamedTuple):
    """An entry as the journal keeps it; `salt` and `payload` are None where the entry has no payload."""

    leaf: bytes
    leaf_hash: bytes
    salt: bytes | None
    payload: bytes | None


def seal(
    entry: Entry, *, run_seq: int, run_prev: str, salt_source: Callable[[int], bytes] = secrets.token_bytes
) -> Sealed:
    """Turn an entry into its leaf and its salted payload.

    `run_seq` counts the entries of one run from 0, and `run_prev` is the leaf hash, in hex, of the run's previous
    entry ("" for the first). An entry of no run takes 0 and "". Raises JournalError, naming the entry, for what a
    leaf cannot hold.
    """
    if entry.at.tzinfo is None:
        raise JournalError(f"entry {entry.id} ({entry.type}) has a time without a zone: {entry.at.isoformat()}")
    envelope: dict[str, Any] = {
        "v": LEAF_VERSION,
        "id": entry.id,
        "type": entry.type.value,
        "at": to_rfc3339(entry.at),
        "actor": entry.actor,
        "subject": entry.subject,
        "data": entry.data,
    }
    if entry.run_id is not None:
        envelope |= {"run": entry.run_id, "run_seq": run_seq, "run_prev": run_prev}
    elif run_seq or run_prev:
        raise JournalError(f"entry {entry.id} ({entry.type}) belongs to no run, yet has place {run_seq} in one")
    salt = payload = None
    try:
        if entry.payload is not None:
            salt, payload = salt_source(SALT_BYTES), payload_text(entry.payload)
            envelope["payload"] = commitment(salt, payload).hex()
        _check_said(envelope)
        leaf = _encode(envelope)
    except (JournalError, ValueError, TypeError, RecursionError) as error:
        raise JournalError(f"entry {entry.id} ({entry.type}) cannot be sealed: {error}") from error
    if len(leaf) > LEAF_BYTES_MAX:
        raise JournalError(
            f"entry {entry.id} ({entry.type}) takes {len(leaf)} bytes, a leaf at most {LEAF_BYTES_MAX};"
            " move what is large from data to payload"
        )
    return Sealed(leaf, leaf_hash(leaf), salt, payload)


def payload_text(payload: dict[str, Any] | bytes) -> bytes:
    """A payload's JSON, with sorted keys; raises ValueError or TypeError for what JSON cannot say."""
    if isinstance(payload, bytes):
        return payload
    try:
        text = orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        pass  # an integer of more than 64 bits, or what the other one refuses as well
    else:
        if b"null" not in text:  # which is what a NaN would have become
            return text
    return _PAYLOAD.encode(payload).encode()


def parse_leaf(leaf: bytes) -> dict[str, Any]:
    """The fields of a leaf; raises JournalError unless these are exactly the bytes that `seal` gives for them."""
    if not isinstance(leaf, bytes):
        raise JournalError(f"the leaf is not bytes but {type(leaf).__name__}")
    if len(leaf) > LEAF_BYTES_MAX:
        raise JournalError(f"the leaf has {len(leaf)} bytes, more than {LEAF_BYTES_MAX}")
    try:
        fields = orjson.loads(leaf)
        if not isinstance(fields, dict):
            raise JournalError("the leaf is not a JSON object")
        _check(fields)
        again = _encode(fields)
    except (ValueError, TypeError) as error:
        raise JournalError(f"the leaf cannot be read: {error}") from error
    if again != leaf:
        raise JournalError("the leaf is not in canonical form (RFC 8785)")
    return fields


def commitment(salt: bytes, payload: bytes) -> bytes:
    """What a leaf says about its payload; raises JournalError where salt or payload can be none."""
    if not isinstance(salt, bytes) or not isinstance(payload, bytes) or len(salt) != SALT_BYTES:
        raise JournalError(f"salt and payload are bytes, and a salt is {SALT_BYTES} of them")
    return hashlib.sha256(salt + payload).digest()


def payload_matches(leaf: bytes, salt: bytes, payload: bytes) -> bool:
    """Whether salt and payload are those that this leaf names; raises JournalError where `leaf` is none."""
    promised = parse_leaf(leaf).get("payload")
    return promised is not None and keeps_promise(promised, salt, payload)


def keeps_promise(promised: str, salt: bytes, payload: bytes) -> bool:
    """Whether salt and payload hash to `promised`, the `payload` field of a leaf."""
    try:
        return commitment(salt, payload).hex() == promised
    except JournalError:
        return False


def _encode(envelope: dict[str, Any]) -> bytes:
    """Canonical JSON of an envelope that passed `_check`.

    With ASCII keys, no floats and integers below 2**53, sorted compact JSON is RFC 8785 already, and orjson writes it
    many times faster than the general encoder; tests hold the two equal.
    """
    return orjson.dumps(envelope, option=orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER)


def _check(fields: dict[str, Any]) -> None:
    """Raise JournalError with the reason where these fields are no envelope of version 1."""
    if type(fields.get("v")) is not int or fields["v"] != LEAF_VERSION:
        raise JournalError(f"version {fields.get('v')!r:.80} is not {LEAF_VERSION}")
    if wrong := _REQUIRED - fields.keys() or fields.keys() - _ALL:
        raise JournalError(f"fields are missing or unknown: {', '.join(sorted(wrong))}")
    _check_said(fields)
    if not _AT.fullmatch(fields["at"]):
        raise JournalError(f"at is not a UTC time with microseconds: {fields['at']!r:.80}")
    if "payload" in fields and not _is_hash(fields["payload"]):
        raise JournalError(f"payload is not a SHA-256 in hex: {fields['payload']!r:.80}")


def _check_said(fields: dict[str, Any]) -> None:
    """As much of it as callers of `seal` say; the rest it makes itself."""
    for name in _TEXT_FIELDS:
        if not isinstance(fields[name], str):
            raise JournalError(f"{name} is not text: {fields[name]!r:.80}")
    _check_run(fields)
    _check_data(fields["data"])


def _check_run(fields: dict[str, Any]) -> None:
    if fields.keys().isdisjoint(_RUN_FIELDS):
        return
    if not fields.keys() >= _RUN_FIELDS:
        raise JournalError("run, run_seq and run_prev go together")
    if not isinstance(fields["run"], str) or not fields["run"]:
        raise JournalError(f"run is not a name: {fields['run']!r:.80}")
    sequence, previous = fields["run_seq"], fields["run_prev"]
    if type(sequence) is not int or sequence < 0:
        raise JournalError(f"run_seq does not count from 0: {sequence!r:.80}")
    if not _is_hash(previous) if sequence else previous != "":
        raise JournalError(f"run_prev of entry {sequence} of a run cannot be {previous!r:.80}")


def _check_data(data: Any) -> None:
    if not isinstance(data, dict):
        raise JournalError(f"data is not an object: {data!r:.80}")
    for name, value in data.items():
        if not isinstance(name, str) or not name.isascii():
            raise JournalError(f"data has a name that is not ASCII: {name!r:.80}")
        if not isinstance(value, str | int):
            raise JournalError(f"data.{name} is neither text, whole number nor boolean: {value!r:.80}")


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and _HEX_HASH.fullmatch(value) is not None
