"""Logs tell what happens and never stop it."""

import contextlib
import io
from pathlib import Path

import pytest
import structlog

from soar import logs


def test_a_line_goes_to_what_is_standard_error_by_then(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as early:
        logs.configure(style="json")
    structlog.get_logger("test").warning("disk.full", path="/var/\x1b[2J")
    assert not early.getvalue()
    assert '"event": "disk.full"' in (told := capsys.readouterr().err)
    assert "\x1b" not in told


@pytest.mark.parametrize("file", ["closed", "/dev/full"])
def test_what_cannot_be_written_stops_nobody(file: str, tmp_path: Path) -> None:
    """A log on a full disk, and a terminal that went away."""
    logs.configure()
    with open(tmp_path / "log" if file == "closed" else file, "w", buffering=1) as log:  # noqa: PTH123 - a device
        if file == "closed":
            log.close()
        with contextlib.redirect_stderr(log):
            structlog.get_logger("test").error("all.well")
        with contextlib.suppress(OSError):
            log.close()
