"""The lab's firewall."""

from __future__ import annotations

from soar.connector.base import Call, Result, action
from soar.connector.capabilities import IpBlock, IpState
from soar.connector.sinks import path_segment
from soar.errors import RemoteNotFoundError
from soar.model.action import Effect, Risk
from soar_connectors.lab.base import LabConnector


class _Rule(Result):
    id: str


class _Rules(Result):
    rules: tuple[_Rule, ...]


class LabFirewall(LabConnector):
    """Blocking adds a rule each time it is asked to, so a lost answer is looked up, not asked for again."""

    name = "lab_firewall"
    product = "Lab firewall"
    probe = "/firewall/rules"

    @action(
        effect=Effect.VERIFIABLE,
        risk=Risk.CONTAIN,
        capability="ip.block",
        undo="unblock_ip",
        verify="ip_status",
        shows={"blocked": True},
        react="RA3101",
        targets={"ip": "ip"},
    )
    async def block_ip(self, params: IpBlock, call: Call) -> IpState:
        """Drop the traffic of an address."""
        answer = await self.http.request("POST", "/firewall/rules", call=call, json=params.model_dump(mode="json"))
        answer.parse(_Rule)
        return IpState(ip=params.ip, blocked=True)

    @action(
        effect=Effect.IDEMPOTENT,
        capability="ip.unblock",
        undo="block_ip",
        verify="ip_status",
        react="RA5101",
        targets={"ip": "ip"},
    )
    async def unblock_ip(self, params: IpBlock, call: Call) -> IpState:
        """Take every rule for an address out of force."""
        for rule in await self._rules(params.ip, call):
            try:
                await self.http.request("DELETE", f"/firewall/rules/{path_segment(rule.id)}", call=call)
            except RemoteNotFoundError:  # somebody else took it out since we looked
                continue
        return IpState(ip=params.ip, blocked=False)

    @action(effect=Effect.READ, targets={"ip": "ip"})
    async def ip_status(self, params: IpBlock, call: Call) -> IpState:
        """Say whether the traffic of an address is dropped."""
        return IpState(ip=params.ip, blocked=bool(await self._rules(params.ip, call)))

    async def _rules(self, ip: str, call: Call) -> tuple[_Rule, ...]:
        answer = await self.http.get("/firewall/rules", call=call, params={"ip": ip})
        return answer.parse(_Rules).rules
