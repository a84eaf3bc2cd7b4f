"""Every error soar raises on purpose.

A message names the thing, the value, the place and the remedy; it is shown to people as it is.
"""

# SoarError
# ├── InputError              what a person or a file gave us is wrong; carries a place (file:line:col)
# │   ├── ConfigError         soar.yaml, environment, secret references
# │   ├── PlaybookError       a playbook file
# │   ├── MappingError        a mapping file
# │   ├── PolicyError         a policy bundle
# │   └── ExpressionError     a JMESPath or ${{ }} expression
# ├── RecordError             a raw message that cannot become an Alert (it becomes a dead letter)
# ├── NotFoundError           a named run, alert, approval ... does not exist
# ├── NotAllowedError         this person may not do this
# ├── StoreError
# │   ├── StateConflictError  the row is not in the state the caller expected
# │   ├── HaltedError         the kill switch is set; nothing may be sent
# │   ├── RunCancelledError   a person asked for the run's end; nothing more may be sent
# │   ├── RunPausedError      a person holds the run; nothing is sent until it is resumed
# │   ├── BusyError           no turn is free at the connector instance; the run waits for its own
# │   ├── RecountError        more was done meanwhile than the decision knew of; it is decided again
# │   ├── LeaseLostError      another worker owns the run now; stop, write nothing
# │   └── StoreUnavailableError   nothing was written
# ├── PolicyUnavailableError  no decision could be had; the run parks and asks again
# ├── JournalError            the journal does not verify
# └── ConnectorError          a call to the outside; `sent` says what may have reached the other side
#     ├── NotSentError        proven: no byte left; safe to try again
#     ├── AuthenticationError 401, 403
#     ├── RemoteNotFoundError 404
#     ├── RemoteConflictError 409
#     ├── RejectedError       any other 4xx: the request is wrong, another try will not help
#     ├── RateLimitedError    429; carries retry_after_seconds
#     ├── RemoteFailureError  5xx that says it did nothing
#     └── OutcomeUnknownError bytes may have been sent and no trustworthy answer came back

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in a file something stands; `line` and `column` count from 1, 0 means the whole file."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}"


class SoarError(Exception):
    """Base of all errors raised on purpose; `code` is a stable word for programs."""

    code = "error"


class InputError(SoarError):
    """Something a person wrote is wrong; `str()` starts with its place."""

    code = "input"

    def __init__(self, message: str, place: Place | None = None) -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.message = message
        self.place = place


class ConfigError(InputError):
    """The configuration is wrong."""

    code = "config"


class PlaybookError(InputError):
    """A playbook is wrong."""

    code = "playbook"


class MappingError(InputError):
    """A mapping is wrong."""

    code = "mapping"


class PolicyError(InputError):
    """A policy bundle is wrong; the running revision stays in force."""

    code = "policy"


class ExpressionError(InputError):
    """An expression does not compile, or is too large to evaluate."""

    code = "expression"


class RecordError(SoarError):
    """A raw message cannot become an Alert; `code` is one word, the message says why."""

    def __init__(self, message: str, code: str = "unreadable") -> None:
        super().__init__(message)
        self.code = code


class NotFoundError(SoarError):
    """A thing that was named does not exist."""

    code = "not_found"


class NotAllowedError(SoarError):
    """This person may not do this."""

    code = "not_allowed"


class StoreError(SoarError):
    """The store refused or could not be reached."""

    code = "store"


class StateConflictError(StoreError):
    """The row is not in the state that the caller expected; somebody else moved it first."""

    code = "state_conflict"


class HaltedError(StoreError):
    """The kill switch is set: no intent may be recorded, so nothing is sent."""

    code = "halted"


class RunCancelledError(StoreError):
    """A person asked for the run's end: no further intent may be recorded."""

    code = "cancelled"


class RunPausedError(StoreError):
    """A person paused the run: no further intent may be recorded, and no sub-run begun, until it is resumed."""

    code = "paused"


class BusyError(StoreError):
    """No turn is free at a connector instance: its limits are reached, others wait before, or it asked us to wait."""

    code = "busy"


class RecountError(StoreError):
    """More was done meanwhile, in another run, than the decision knew of: nothing was written, decide again."""

    code = "recount"


class LeaseLostError(StoreError):
    """Another worker owns this run now: stop at once, write nothing, send nothing."""

    code = "lease_lost"


class StoreUnavailableError(StoreError):
    """The store could not be written; nothing was."""

    code = "store_unavailable"


class StoreAwayError(StoreUnavailableError):
    """The store's server does not answer, or is only starting: it may be there soon."""


class IntakeStuckError(SoarError):
    """A source has records and gives us none, however often we ask; a new process may fare better."""

    code = "intake_stuck"


class PolicyUnavailableError(SoarError):
    """No decision could be had. Nothing is sent; the run parks and asks again."""

    code = "policy_unavailable"


class JournalError(SoarError):
    """The journal does not verify; `index` is the first bad entry where one is known."""

    code = "journal"

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class ConnectorError(SoarError):
    """A call to the outside did not succeed.

    `retryable` says whether the same call may be tried again without harm, `status` is the HTTP
    status where there was one.
    """

    code = "connector"
    retryable = False

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NotSentError(ConnectorError):
    """Proven before sending: name not resolved, connection refused, secret missing. No byte left."""

    code = "not_sent"
    retryable = True


class LateIntentError(NotSentError):
    """Our store took so long with the intent that the lease may be another's by now. No byte left."""

    code = "late_intent"


class AuthenticationError(ConnectorError):
    """The other side does not accept our credentials or their rights (401, 403)."""

    code = "authentication"


class RemoteNotFoundError(ConnectorError):
    """The other side has no such thing (404)."""

    code = "remote_not_found"


class RemoteConflictError(ConnectorError):
    """The other side says that this contradicts its state (409)."""

    code = "remote_conflict"


class RejectedError(ConnectorError):
    """The other side refuses the request as it is (other 4xx)."""

    code = "rejected"


class RateLimitedError(ConnectorError):
    """The other side asks us to wait (429)."""

    code = "rate_limited"
    retryable = True

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, status: int | None = 429) -> None:
        super().__init__(message, status=status)
        self.retry_after_seconds = retry_after_seconds


class RemoteFailureError(ConnectorError):
    """The other side failed and says that it did nothing (503 with Retry-After, or a read that failed)."""

    code = "remote_failure"
    retryable = True


class OutcomeUnknownError(ConnectorError):
    """Bytes may have been sent and no trustworthy answer came back: it may or may not have happened."""

    code = "outcome_unknown"
