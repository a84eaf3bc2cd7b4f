"""The policy engine that the configuration names."""

from __future__ import annotations

import shutil
from pathlib import Path

from soar.connector.secret import Secret, SecretResolver
from soar.errors import ConfigError, NotSentError, PolicyError
from soar.policy.address import OpaAddress
from soar.policy.bundle import Bundle
from soar.policy.embedded import EmbeddedEngine
from soar.policy.server import OpaEngine
from soar.policy.spawn import SpawnedOpa
from soar.settings import Loaded


def engine_of(loaded: Loaded, bundle: Bundle) -> EmbeddedEngine | OpaEngine:
    """An engine on this bundle, not open yet; raises ConfigError and PolicyError."""
    chosen = loaded.settings.policy
    if chosen.engine == "embedded":
        return EmbeddedEngine(bundle, timeout_seconds=chosen.timeout_seconds)
    server = SpawnedOpa(program_of(loaded), bundle) if chosen.spawn else address_of(loaded)
    return OpaEngine(server, revision=bundle.revision, timeout_seconds=chosen.timeout_seconds)


def program_of(loaded: Loaded) -> Path:
    """The `opa` that would be spawned; raises ConfigError where there is none."""
    found = shutil.which("opa", path=loaded.environ.get("PATH", ""))
    if found is None:
        remedy = "install OPA 1.21.3 or newer there, or name a server by policy.url"
        raise ConfigError(f"policy.spawn: there is no program opa on PATH; {remedy}", loaded.place("policy", "spawn"))
    return Path(found).resolve()


def address_of(loaded: Loaded) -> OpaAddress:
    """Where the configured server answers; raises ConfigError."""
    chosen = loaded.settings.policy
    assert chosen.url is not None, "settings see to that"
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
