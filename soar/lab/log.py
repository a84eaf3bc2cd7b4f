"""The lab's request log: JSON Lines, one line per request, on disk before the answer leaves.

It is the oracle of crash tests: `json.loads` on each line is all that reading it takes. A line holds

- `seq`, from 1 without gaps, and `at`
- `system`, `method`, `path` (as sent, below the system's prefix, with its query), `idempotency_key`, `body`
- `status`, None where the connection was cut instead of an answer
- `applied`: something changed, and `effect`: what, in words
- `duplicate`: a repeat of an idempotency key, which got the first answer
- `fault`: the switch that befell it, None without
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_RECENT = 200


class RequestLog:
    """Appends lines in order and answers when they are durable. One process writes a log at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        earlier = read_log(path)
        self.path = path
        self.recent: deque[dict[str, Any]] = deque(earlier[-_RECENT:], maxlen=_RECENT)
        self._seq = len(earlier)
        self._file = path.open("ab")
        _sync_folder(path.parent)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab-log")

    async def append(self, **fields: Any) -> None:
        """Write one line and wait for the disk; lines stand in the order of the calls."""
        self._seq += 1
        line = {"seq": self._seq, **fields}
        self.recent.append(line)
        await asyncio.get_running_loop().run_in_executor(self._writer, self._write, line)

    def close(self) -> None:
        """Wait for the last line and close the file."""
        self._writer.shutdown(wait=True)
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read_log(path: Path) -> list[dict[str, Any]]:
    """Every whole line of a log, oldest first; none where there is no log yet."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]  # what follows the last newline was never acknowledged


def _cut_torn_line(path: Path) -> None:
    """A line without its newline was being written when we died: nobody was told of it, so it did not happen."""
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


def _sync_folder(folder: Path) -> None:
    """A new file survives a power cut only when its folder's entry is on disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
