"""PostgreSQL: one database for any number of workers."""

from soar.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
