"""The lab's endpoint detection and response."""

from __future__ import annotations

from soar.connector.base import Call, action
from soar.connector.capabilities import Host, HostState, IocBlock, IocState
from soar.connector.sinks import path_segment
from soar.model.action import Effect, Risk
from soar_connectors.lab.base import LabConnector


class LabEdr(LabConnector):
    """Endpoints of the lab; a host it does not know is enrolled when first acted on."""

    name = "lab_edr"
    product = "Lab EDR"
    probe = "/edr/hosts"

    @action(
        effect=Effect.IDEMPOTENT,
        risk=Risk.CONTAIN,
        capability="host.isolate",
        undo="release_host",
        verify="host_status",
        targets={"host": "host"},
    )
    async def isolate_host(self, params: Host, call: Call) -> HostState:
        """Cut a host off the network."""
        return await self._post(params, "isolate", call)

    @action(
        effect=Effect.IDEMPOTENT,
        capability="host.release",
        undo="isolate_host",
        verify="host_status",
        targets={"host": "host"},
    )
    async def release_host(self, params: Host, call: Call) -> HostState:
        """Let an isolated host back onto the network."""
        return await self._post(params, "release", call)

    @action(effect=Effect.READ, capability="host.status", targets={"host": "host"})
    async def host_status(self, params: Host, call: Call) -> HostState:
        """Say whether a host is cut off."""
        answer = await self.http.get(f"/edr/hosts/{path_segment(params.host)}", call=call)
        return answer.parse(HostState)

    @action(
        effect=Effect.IDEMPOTENT,
        risk=Risk.CONTAIN,
        capability="ioc.block",
        undo="unblock_ioc",
        react="RA3403",
        targets={"value": "observable"},
    )
    async def block_ioc(self, params: IocBlock, call: Call) -> IocState:
        """Block an observable on every endpoint."""
        await self.http.request("POST", "/edr/indicators", call=call, json=params.model_dump(mode="json"))
        return IocState(type=params.type, value=params.value, blocked=True)

    @action(effect=Effect.IDEMPOTENT, undo="block_ioc", react="RA5401", targets={"value": "observable"})
    async def unblock_ioc(self, params: IocBlock, call: Call) -> IocState:
        """Allow an observable again on every endpoint."""
        named = {"type": params.type, "value": params.value}
        await self.http.request("DELETE", "/edr/indicators", call=call, params=named)
        return IocState(type=params.type, value=params.value, blocked=False)

    async def _post(self, params: Host, verb: str, call: Call) -> HostState:
        answer = await self.http.request("POST", f"/edr/hosts/{path_segment(params.host)}/{verb}", call=call)
        return answer.parse(HostState)
