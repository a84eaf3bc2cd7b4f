"""Names for values from alerts, by which equal ones are recognised.

They stand in the store beside what they name, and longer: so they are hashes under a key of the store's own. Without it
nobody can tell whether a name is that of a value they guess; with it, only as long as erasure leaves the name there.
"""

from __future__ import annotations

import hmac
import json
from typing import Any

import orjson


class Names:
    """Gives names under one key, in hex."""

    def __init__(self, key: str) -> None:
        self._key = bytes.fromhex(key)

    def of(self, value: Any) -> str:
        """HMAC-SHA-256 over the value's JSON.

        Not RFC 8785, which refuses the 64-bit integers that some products send.
        """
        try:
            text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except TypeError:  # it knows no longer integers
            text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        return self.of_text(text)

    def of_text(self, text: bytes) -> str:
        """The same for a value's JSON, as orjson writes it with sorted keys."""
        return hmac.digest(self._key, text, "sha256").hex()
