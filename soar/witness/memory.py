"""What a witness remembers: for each log the checkpoint that it cosigned last, one file each.

A file is replaced before its cosignature leaves the house. If we crash between the two, the log asks again and is told
the new size; nothing is ever cosigned that contradicts what was.
"""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path

from soar.errors import ConfigError, JournalError
from soar.journal.checkpoint import Checkpoint
from soar.journal.cosignature import CosignatureVerifier
from soar.journal.durable import replace_file
from soar.journal.note import open_note


class Memory:
    """The folder of a witness. One process at a time: it holds a lock until `close`."""

    def __init__(self, folder: Path, *, verifier: CosignatureVerifier) -> None:
        """Open the folder, or make it; raises ConfigError where another witness has it."""
        self._folder = folder
        self._verifier = verifier
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise ConfigError(f"another witness works in {folder}; give each its own folder") from error

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.close()

    def latest(self, origin: str) -> Checkpoint | None:
        """What was cosigned last for a log; None where nothing ever was.

        Raises JournalError where the file is not one that we wrote: a witness that has lost its memory says so, and
        does not begin anew.
        """
        path = self._path(origin)
        try:
            note = open_note(path.read_bytes().decode(), [self._verifier])
            checkpoint = Checkpoint.from_text(note.text)
        except FileNotFoundError:
            return None
        except (JournalError, UnicodeDecodeError) as error:
            raise JournalError(f"{path} is not what this witness remembered of {origin!r}: {error}") from error
        if checkpoint.origin != origin:
            raise JournalError(f"{path} is of the log {checkpoint.origin!r}, not {origin!r}")
        return checkpoint

    def keep(self, origin: str, note: str) -> None:
        """Remember a cosigned checkpoint, durably."""
        replace_file(self._path(origin), note.encode())

    def _path(self, origin: str) -> Path:
        # An origin may hold any character, a file's name may not.
        return self._folder / f"{hashlib.sha256(origin.encode()).hexdigest()}.checkpoint"
