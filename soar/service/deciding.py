"""The policy engine that the configuration names."""

from __future__ import annotations

import shutil
from pathlib import Path

from soar.connector.secret import Secret, SecretResolver
from soar.errors import ConfigError, NotSentError, PolicyError
from soar.policy.address import OpaAddress
from soar.policy.bundle import Bundle
from soar.policy.embedded import EmbeddedEngine
from soar.policy.server import START_SECONDS, OpaEngine
from soar.policy.spawn import SpawnedOpa
from soar.settings import Loaded


def engine_of(loaded: Loaded, bundle: Bundle, *, start_seconds: float = START_SECONDS) -> EmbeddedEngine | OpaEngine:
    """An engine on this bundle, not open yet; raises ConfigError and PolicyError.

    `start_seconds` is how long an OPA may take to come up.
    """
    timeout_seconds = loaded.settings.policy.timeout_seconds
    server = server_of(loaded)
    if server is None:
        return EmbeddedEngine(bundle, timeout_seconds=timeout_seconds)
    return OpaEngine(
        SpawnedOpa(server, bundle) if isinstance(server, Path) else server,
        revision=bundle.revision,
        timeout_seconds=timeout_seconds,
        start_seconds=start_seconds,
    )


def server_of(loaded: Loaded) -> OpaAddress | Path | None:
    """Where the OPA answers that the configuration names, or the program to spawn; None for the embedded engine.

    Raises ConfigError for what cannot be had, with its place. Asks nobody.
    """
    chosen = loaded.settings.policy
    if chosen.engine == "embedded":
        return None
    if chosen.url is None:
        return _program(loaded)
    token = None
    if chosen.token is not None:
        try:
            token = SecretResolver(loaded.environ).reveal(Secret(chosen.token))
        except (ConfigError, NotSentError) as failure:
            raise ConfigError(f"policy.token: {failure}", loaded.place("policy", "token")) from None
    try:
        return OpaAddress(url=chosen.url, token=token, ca=loaded.path(chosen.ca) if chosen.ca else None)
    except PolicyError as failure:
        raise ConfigError(f"policy.url: {failure}", loaded.place("policy", "url")) from None


def _program(loaded: Loaded) -> Path:
    found = shutil.which("opa", path=loaded.environ.get("PATH", ""))
    if found is None:
        remedy = "install OPA 1.21.3 or newer there, or name a server by policy.url"
        raise ConfigError(f"policy.spawn: there is no program opa on PATH; {remedy}", loaded.place("policy", "spawn"))
    return Path(found).resolve()
