"""Files that are whole or not there, whenever the power fails."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Put `content` in place of what `path` holds, if anything; on return it survives a power failure.

    Whoever reads meanwhile, or after a crash, finds the old content or the new, whole. One writer at a time.
    """
    draft = path.with_name(f".{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the name is in the folder, not in the file
    finally:
        os.close(folder)
