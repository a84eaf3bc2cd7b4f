"""What every word of the vocabulary shares: frozen, strict about names, canonical bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson
import rfc8785
from pydantic import BaseModel, ConfigDict

Json = Any  # str, int, float, bool, None, list, dict of them; a recursive type would cost pydantic dearly


_EXACT = 2**53
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class Frozen(BaseModel):
    """A value: never changed, only replaced. Unknown fields are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"
    )


def canonical(value: Json) -> bytes:
    """Canonical JSON of a value (RFC 8785): equal values give equal bytes, anywhere.

    Raises `ValueError` (`rfc8785.CanonicalizationError`) for what JSON cannot say: NaN, integers beyond 2**53.
    """
    # Sorted compact JSON is RFC 8785 wherever all is ASCII and there are no fractions and no large integers; orjson
    # writes that thirty times faster. Everything else goes the long way.
    if _whole((value,)):
        try:
            text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except TypeError:  # what is no JSON: the other one says why
            pass
        else:
            if text.isascii():
                return text
    return rfc8785.dumps(value)


def _whole(values: Iterable[Json]) -> bool:
    """Whether all numbers in these values are integers that JSON keeps exactly."""
    for value in values:
        kind = type(value)
        if kind is str or value is None or kind is bool:
            continue
        if kind is dict:
            if not _whole(value.values()):
                return False
        elif kind is list or kind is tuple:
            if not _whole(value):
                return False
        elif kind is not int or not -_EXACT < value < _EXACT:
            return False
    return True


def to_json(value: Json) -> str:
    """Compact JSON text, as stores keep it in columns of text: PostgreSQL's jsonb would refuse U+0000."""
    return _COMPACT.encode(value)


def digest(value: Json) -> str:
    """SHA-256 over the canonical JSON of a value, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def to_rfc3339(moment: datetime) -> str:
    """UTC, microseconds, `Z`: one spelling for one instant, ordered as text."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def from_rfc3339(text: str) -> datetime:
    """The inverse of `to_rfc3339`; raises ValueError for anything that is no instant."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time without a zone: {text!r}")
    return moment.astimezone(UTC)
