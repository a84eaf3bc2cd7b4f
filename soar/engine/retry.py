"""When a failed try is made again."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from soar.errors import ConnectorError, LateIntentError, OutcomeUnknownError, RateLimitedError
from soar.model.action import Attempt
from soar.model.playbook import Retry

_WORDS = {
    "rate_limited": "rate_limited",
    "not_sent": "not_sent",
    "remote_failure": "remote_failure",
    LateIntentError.code: "not_sent",
    "outcome_unknown": "timeout",  # only asked for what is safe to repeat
}
OURS = Retry(attempts=20)
"""Where a store that is slow kept a call from being made: no fault of the other side's, and no try at it."""


LONGEST = timedelta(days=1)
"""The other side may ask for a wait of this length; a longer one is not believed."""


def next_try(retry: Retry, failure: ConnectorError, *, attempt: Attempt, tried: int, now: datetime) -> datetime | None:
    """The instant of the next try after `tried` of them, or None where there is none.

    The wait doubles from `backoff.from` to `backoff.to`, takes up to half off by jitter, and is never shorter
    than the other side asked for. Jitter is drawn from the attempt's key, so that replay finds the same.
    """
    repeatable = failure.retryable or isinstance(failure, OutcomeUnknownError)
    if not repeatable or _WORDS.get(failure.code) not in retry.on or tried >= retry.attempts:
        return None
    longest = min(retry.backoff.from_ * 2 ** (tried - 1), retry.backoff.to)
    seed = hashlib.sha256(f"{attempt.request.idempotency_key}\n{attempt.number}".encode()).digest()
    wait: timedelta = longest * (1 - seed[0] / 512)
    if isinstance(failure, RateLimitedError) and failure.retry_after_seconds is not None:
        wait = max(wait, min(timedelta(seconds=min(failure.retry_after_seconds, 1e8)), LONGEST))
    return now + wait
