"""Structured logs: dotted event names with fields, to standard error, without anything that steers a terminal."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, WrappedLogger

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class _StandardError:
    """Standard error as it is at each line.

    A line that it does not take is lost: no full disk or closed pipe under the log may stop what it tells of.
    """

    def write(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(line)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def configure(*, level: str = "info", style: Literal["console", "json"] = "console") -> None:
    """Set up logging for this process."""
    # Kafka's client says many times a second that a broker is away, in lines of its own; soar says it once, in ours.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(_matters)
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _harmless,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _StandardError())),
        cache_logger_on_first_use=False,
    )


def _matters(record: logging.LogRecord) -> bool:
    """All but what befell a request to Kafka that was given up: its client leaves that task behind, unasked for."""
    failure = record.exc_info[1] if record.exc_info else None
    return not type(failure).__module__.startswith("aiokafka.")


def harmless(text: str) -> str:
    """Text without control characters and direction overrides: an alert's words must not steer a terminal."""
    return _STEERING.sub("\ufffd", text)


def _harmless(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: harmless(value) if isinstance(value, str) else value for key, value in event.items()}
