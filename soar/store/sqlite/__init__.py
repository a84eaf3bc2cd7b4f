"""SQLite: the embedded default, for one machine with nothing installed."""

from soar.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
