"""What the lab's connectors share: one server, one token, a path prefix each."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from soar.connector.base import Call, Connector
from soar.connector.client import BearerAuth, Endpoint
from soar.connector.secret import Secret


class LabConfig(Endpoint):
    """Where `soar lab` listens, and its token."""

    token: Secret
    allow_private: bool = Field(default=True, description="The lab listens on loopback, so that is allowed.")


class LabConnector(Connector[LabConfig]):
    """One system of the lab; subclasses name it, and a path that answers without changing anything."""

    version = "1.0.0"
    vendor = "soar"
    product_versions = "of this release"
    quality = "gold"
    Config = LabConfig
    probe: ClassVar[str]

    @classmethod
    def client_options(cls, config: LabConfig) -> dict[str, Any]:
        """Bearer token on every call."""
        return config.client_options(BearerAuth(config.token))

    async def test(self, call: Call) -> str:
        """Ask the system for something harmless, with the token."""
        await self.http.get(self.probe, call=call)
        return f"{self.product} at {self.config.base_url} knows our token"


def keyed(call: Call) -> dict[str, str]:
    """The header by which the lab tells a repeat from a new request."""
    return {"Idempotency-Key": call.idempotency_key}
