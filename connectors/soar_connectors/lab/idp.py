"""The lab's identity provider."""

from __future__ import annotations

from soar.connector.base import Call, action
from soar.connector.capabilities import Account, AccountState, SessionsRevoked
from soar.connector.sinks import path_segment
from soar.model.action import Effect, Risk
from soar_connectors.lab.base import LabConnector


class LabIdp(LabConnector):
    """Accounts of the lab; a user it does not know is enrolled when first acted on."""

    name = "lab_idp"
    product = "Lab identity provider"
    probe = "/idp/users"

    @action(
        effect=Effect.IDEMPOTENT,
        risk=Risk.CONTAIN,
        capability="account.disable",
        undo="enable_account",
        verify="get_account",
        react="RA3601",
        targets={"user": "user"},
    )
    async def disable_account(self, params: Account, call: Call) -> AccountState:
        """Refuse an account's sign-ins; its sessions go on until they are revoked."""
        answer = await self.http.request("POST", f"{_path(params)}/disable", call=call)
        return answer.parse(AccountState)

    @action(
        effect=Effect.IDEMPOTENT,
        capability="account.enable",
        undo="disable_account",
        verify="get_account",
        react="RA5601",
        targets={"user": "user"},
    )
    async def enable_account(self, params: Account, call: Call) -> AccountState:
        """Accept an account's sign-ins again."""
        answer = await self.http.request("POST", f"{_path(params)}/enable", call=call)
        return answer.parse(AccountState)

    @action(
        effect=Effect.IDEMPOTENT,
        risk=Risk.DESTRUCTIVE,
        capability="account.revoke_sessions",
        react="RA4601",
        targets={"user": "user"},
    )
    async def revoke_sessions(self, params: Account, call: Call) -> SessionsRevoked:
        """End every session of an account; asked again, it finds none left."""
        answer = await self.http.request("DELETE", f"{_path(params)}/sessions", call=call)
        return answer.parse(SessionsRevoked)

    @action(effect=Effect.READ, capability="account.get", targets={"user": "user"})
    async def get_account(self, params: Account, call: Call) -> AccountState:
        """Say whether an account can sign in."""
        answer = await self.http.get(_path(params), call=call)
        return answer.parse(AccountState)


def _path(params: Account) -> str:
    return f"/idp/users/{path_segment(params.user)}"
