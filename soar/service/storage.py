"""The store that the configuration names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

from soar.connector.secret import PREFIX, Secret, SecretResolver
from soar.errors import ConfigError, NotSentError
from soar.journal.archive import PAYLOAD_ARCHIVED, ArchiveFolder
from soar.settings import Loaded
from soar.store.evidence import Evidence
from soar.store.port import Store
from soar.store.postgres import PostgresStore
from soar.store.postgres import evidence as postgres
from soar.store.sqlite import SqliteStore
from soar.store.sqlite import evidence as sqlite


def store_of(loaded: Loaded) -> Store:
    """PostgreSQL where `store.url` stands, else the SQLite file; not open yet. Raises ConfigError."""
    url = database_url(loaded)
    if url is not None:
        return PostgresStore(url)
    path = loaded.path(loaded.settings.store.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return SqliteStore(path)


@contextlib.contextmanager
def evidence_of(loaded: Loaded) -> Iterator[tuple[Evidence, ArchiveFolder]]:
    """The journal as the store holds it at one moment, and the archive that it tells of; nothing is made or changed.

    Not within an event loop. Raises ConfigError, NotFoundError and StoreUnavailableError.
    """
    url = database_url(loaded)
    path = loaded.path(loaded.settings.store.path)
    with postgres.open_evidence(url) if url is not None else sqlite.open_evidence(path) as evidence:
        yield evidence, archive_of(loaded).knowing(evidence.leaves(PAYLOAD_ARCHIVED))


def archive_of(loaded: Loaded) -> ArchiveFolder:
    """Where payloads go that have grown old."""
    return ArchiveFolder(loaded.path(loaded.settings.retention.archive))


def database_url(loaded: Loaded) -> str | None:
    """The value of `store.url`, looked up where it is a reference; None without one. Raises ConfigError."""
    url = loaded.settings.store.url
    if url is None:
        return None
    place = loaded.place("store", "url")
    if url.startswith(PREFIX):
        try:
            url = SecretResolver(loaded.environ).reveal(Secret(url))
        except (NotSentError, ConfigError) as failure:
            raise ConfigError(str(failure), place) from None
    elif urlsplit(url).password:
        remedy = "store the whole URL as a secret and write its reference"
        raise ConfigError(f"store.url holds a password; {remedy}", place)
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError("store.url is no postgresql://USER@HOST/DATABASE", place)
    return url
