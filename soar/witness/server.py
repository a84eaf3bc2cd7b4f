"""Serving a witness until a signal ends it."""

from __future__ import annotations

import uvicorn
from starlette.applications import Starlette


def run(app: Starlette, *, host: str, port: int) -> None:
    """Listen and answer until SIGINT or SIGTERM; requests under way are finished."""
    uvicorn.run(
        app,
        host=host,
        port=port,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
    )
