"""The journal's key on the disk: read, locked, held while it signs, and followed by another."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from soar.connector.secret import Secret, SecretResolver
from soar.errors import ConfigError, JournalError, NotSentError, StateConflictError
from soar.journal.durable import replace_file
from soar.journal.note import Signer
from soar.journal.rotation import lock_key, unlock_key
from soar.settings import Loaded

PRIVATE = 0o600


def key_path(loaded: Loaded) -> Path:
    """Where the key is."""
    return loaded.path(loaded.settings.journal.key)


def next_path(loaded: Loaded) -> Path:
    """Where the key that follows is, from the begin of a rotation to its end."""
    path = key_path(loaded)
    return path.with_name(f"{path.name}.next")


def read_key(loaded: Loaded) -> Signer:
    """The journal's signing key; raises ConfigError where it is missing, not private, or does not open."""
    return read_key_at(loaded, key_path(loaded))


def read_key_at(loaded: Loaded, path: Path) -> Signer:
    """A signing key in a file; raises ConfigError."""
    place = loaded.place("journal", "key")
    if not path.is_file():
        raise ConfigError(f"the journal's key {path} does not exist; `soar init` or `soar keys init` makes one", place)
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"the journal's key {path} can be read by others; run: chmod 600 {path}", place)
    try:
        return Signer.from_text(unlock_key(path.read_text().strip(), passphrase(loaded)))
    except (JournalError, ValueError) as failure:
        raise ConfigError(f"the journal's key {path} is not readable as a key: {failure}", place) from failure


def passphrase(loaded: Loaded) -> str | None:
    """What the key is locked with, None where the configuration names nothing; raises ConfigError."""
    reference = loaded.settings.journal.passphrase
    if reference is None:
        return None
    try:
        return SecretResolver(loaded.environ).reveal(Secret(reference))
    except (ValueError, NotSentError) as failure:
        raise ConfigError(str(failure), loaded.place("journal", "passphrase")) from failure


def write_key(loaded: Loaded, path: Path, signer: Signer) -> None:
    """Keep a key, durably and for this account alone; locked where the configuration names a passphrase."""
    secret, phrase = signer.to_text(), passphrase(loaded)
    replace_file(path, f"{lock_key(secret, phrase) if phrase else secret}\n".encode(), mode=PRIVATE)


@contextlib.contextmanager
def hold_key(loaded: Loaded, *, alone: bool = False) -> Iterator[None]:
    """Keep the key as it is while it signs, or nobody else at it while it is replaced.

    The system lets go where the process ends, however it does. Raises StateConflictError.
    """
    path = key_path(loaded)
    if not path.exists():
        read_key(loaded)  # says what to do
    if not alone and next_path(loaded).exists():
        remedy = "run what began it again: soar keys rotate, or soar audit continue"
        raise StateConflictError(f"another key was about to follow {path}, which was not finished; {remedy}")
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as failure:
        raise ConfigError(f"the journal's key {path} cannot be opened: {failure.strerror}") from failure
    try:
        _lock(descriptor, path, alone=alone)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, *, alone: bool) -> None:
    what = "a service is running and signs with it; stop it first" if alone else "it is being replaced"
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError as failure:
        raise StateConflictError(f"the journal's key {path} is in use: {what}") from failure
    if not os.path.samestat(os.fstat(descriptor), path.stat()):  # replaced between our look and our lock
        raise StateConflictError(f"the journal's key {path} was replaced just now; try again")
