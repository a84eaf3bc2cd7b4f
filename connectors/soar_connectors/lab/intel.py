"""The lab's enrichment service and small SIEM."""

from __future__ import annotations

from soar.connector.base import Call, action
from soar.connector.capabilities import (
    IocLookup,
    IocVerdict,
    SiemAlert,
    SiemRows,
    SiemSearch,
    SiemUpdateAlert,
)
from soar.connector.sinks import path_segment
from soar.model.action import Effect
from soar_connectors.lab.base import LabConnector


class LabIntel(LabConnector):
    """What is known of observables and events in the lab."""

    name = "lab_intel"
    product = "Lab enrichment service"
    probe = "/intel/events"

    @action(effect=Effect.READ, capability="ioc.lookup")
    async def lookup_ioc(self, params: IocLookup, call: Call) -> IocVerdict:
        """Ask what is known of an observable."""
        answer = await self.http.get("/intel/indicators", call=call, params=params.model_dump())
        return answer.parse(IocVerdict)

    @action(effect=Effect.READ, capability="siem.search")
    async def search_events(self, params: SiemSearch, call: Call) -> SiemRows:
        """Search events: `field=value` must match exactly, any other word in part."""
        answer = await self.http.get("/intel/events", call=call, params=params.model_dump())
        return answer.parse(SiemRows)

    @action(effect=Effect.IDEMPOTENT, capability="siem.update_alert")
    async def update_alert(self, params: SiemUpdateAlert, call: Call) -> SiemAlert:
        """Set the status of an alert."""
        path = f"/intel/alerts/{path_segment(params.id)}"
        body = {"status": params.status, "comment": params.comment}
        answer = await self.http.request("PATCH", path, call=call, json=body)
        return answer.parse(SiemAlert)
