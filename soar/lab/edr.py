"""The endpoint detection and response system."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from soar.lab.exchange import Answer, Nothing, System, route
from soar.model.base import Frozen

IndicatorType = Literal["ip", "domain", "url", "sha256", "sha1", "md5", "email"]


class Host(Frozen):
    """One endpoint."""

    host: str
    os: str = "unknown"
    role: str = "enrolled at first sight"
    isolated: bool = False


class Indicator(Frozen):
    """A value that no endpoint may touch."""

    type: IndicatorType
    value: str = Field(min_length=1)
    reason: str = ""


class IndicatorName(Frozen):
    """Names an indicator."""

    type: IndicatorType
    value: str = Field(min_length=1)


SEED = (
    Host(host="ws-17", os="Windows 11", role="workstation, finance"),
    Host(host="ws-23", os="Windows 11", role="workstation, sales"),
    Host(host="mac-04", os="macOS 15", role="laptop, design"),
    Host(host="srv-db-01", os="Debian 12", role="customer database"),
    Host(host="srv-web-02", os="Debian 12", role="public web shop"),
    Host(host="dc-01", os="Windows Server 2022", role="domain controller"),
)


class Edr(System):
    """All verbs are idempotent and can be read back. A host nobody told it of is enrolled when first acted on."""

    name: ClassVar[str] = "edr"

    def __init__(self) -> None:
        super().__init__()
        self.hosts = {host.host: host for host in SEED}
        self.blocked: dict[tuple[str, str], Indicator] = {}

    def snapshot(self) -> dict[str, Any]:
        """Hosts by name, and blocked indicators."""
        return {
            "hosts": {name: host.model_dump() for name, host in self.hosts.items()},
            "blocked": [indicator.model_dump() for indicator in self.blocked.values()],
        }

    @route("GET", "/hosts")
    def list_hosts(self, _: Nothing) -> Answer:
        """Every host it has met."""
        return Answer(body={"hosts": [host.model_dump() for host in self.hosts.values()]})

    @route("GET", "/hosts/{host}")
    def read_host(self, _: Nothing, host: str) -> Answer:
        """One host; one not met yet is not isolated."""
        return Answer(body=self.hosts.get(host, Host(host=host)).model_dump())

    @route("POST", "/hosts/{host}/isolate")
    def isolate(self, _: Nothing, host: str) -> Answer:
        """Cut a host off the network."""
        return self._set(host, isolated=True)

    @route("POST", "/hosts/{host}/release")
    def release(self, _: Nothing, host: str) -> Answer:
        """Let a host back onto the network."""
        return self._set(host, isolated=False)

    @route("GET", "/indicators")
    def list_indicators(self, _: Nothing) -> Answer:
        """What is blocked on every endpoint."""
        return Answer(body={"indicators": [indicator.model_dump() for indicator in self.blocked.values()]})

    @route("POST", "/indicators", takes=Indicator)
    def block(self, given: Indicator) -> Answer:
        """Block an indicator; an indicator is blocked once, however often it is sent."""
        name = (given.type, given.value)
        if name in self.blocked:
            return Answer(body=self.blocked[name].model_dump())
        self.blocked[name] = given
        return Answer(status=201, body=given.model_dump(), effect=f"blocked {given.type} {given.value}")

    @route("DELETE", "/indicators", takes=IndicatorName)
    def unblock(self, given: IndicatorName) -> Answer:
        """Allow an indicator again; one that is not blocked is fine already."""
        gone = self.blocked.pop((given.type, given.value), None)
        return Answer(body=given.model_dump(), effect=f"unblocked {given.type} {given.value}" if gone else None)

    def _set(self, name: str, *, isolated: bool) -> Answer:
        before = self.hosts.get(name, Host(host=name))
        after = before.model_copy(update={"isolated": isolated})
        self.hosts[name] = after
        word = "isolated" if isolated else "released"
        return Answer(body=after.model_dump(), effect=f"{word} host {name}" if after != before else None)
