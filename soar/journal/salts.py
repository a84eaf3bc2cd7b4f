"""Random bytes for the salts of many entries."""

from __future__ import annotations

import io
import secrets

_AT_ONCE = 1024


class Randomness:
    """Fresh random bytes. Asking the system once for many costs a hundredth of asking for each."""

    def __init__(self) -> None:
        self._left = io.BytesIO()

    def __call__(self, count: int) -> bytes:
        """So many bytes, which nobody was given before."""
        some = self._left.read(count)
        if len(some) < count:
            self._left = io.BytesIO(secrets.token_bytes(_AT_ONCE))
            some = self._left.read(count)
        return some
