"""The store that the configuration names."""

from __future__ import annotations

from urllib.parse import urlsplit

from soar.connector.secret import PREFIX, Secret, SecretResolver
from soar.errors import ConfigError, NotSentError
from soar.settings import Loaded
from soar.store.port import Store
from soar.store.postgres import PostgresStore
from soar.store.sqlite import SqliteStore


def store_of(loaded: Loaded) -> Store:
    """PostgreSQL where `store.url` stands, else the SQLite file; not open yet. Raises ConfigError."""
    url = database_url(loaded)
    if url is not None:
        return PostgresStore(url)
    path = loaded.path(loaded.settings.store.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return SqliteStore(path)


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
