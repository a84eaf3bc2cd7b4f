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
    chosen = loaded.settings.store
    if chosen.url is None:
        path = loaded.path(chosen.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return SqliteStore(path)
    url = chosen.url
    if url.startswith(PREFIX):
        try:
            url = SecretResolver(loaded.environ).reveal(Secret(url))
        except (NotSentError, ConfigError) as failure:
            raise ConfigError(str(failure), loaded.place("store", "url")) from None
    elif urlsplit(url).password:
        raise ConfigError(
            "store.url holds a password; store the whole URL as a secret and write its reference",
            loaded.place("store", "url"),
        )
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError("store.url is no postgresql://USER@HOST/DATABASE", loaded.place("store", "url"))
    return PostgresStore(url)
