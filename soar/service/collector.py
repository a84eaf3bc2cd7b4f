"""Python's collector of cycles, as suits a service."""

from __future__ import annotations

import gc

_YOUNG = 50_000
"""New objects between two looks. Runs make thousands a second under load, and a batch of alerts tens of thousands at
once, nearly none of them in cycles: at Python's 700 the looks are a third of the time that triage takes."""
_MIDDLE, _OLD = 20, 20


def settle() -> None:
    """Take what is there now for what stays, so that it is looked through no more, and look at the rest less often.

    To be called once a service has started. What a reload replaces is let go of as ever, but for what is in cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
