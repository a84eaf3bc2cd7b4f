"""A catalogue that offers every capability, as one configured instance would."""

from soar.connector.capabilities import CAPABILITIES
from soar.model.action import ActionSpec, Effect, Risk
from soar.model.catalogue import Catalogue, Offer

SCHEMALESS = ActionSpec(
    connector="http",
    verb="request",
    summary="Send anything.",
    effect=Effect.UNSAFE,
    risk=Risk.NONE,
    params_schema={"type": "object", "additionalProperties": True},
    result_schema={"type": "object", "additionalProperties": True},
)


def offer(name: str, instance: str = "lab") -> Offer:
    capability = CAPABILITIES[name]
    spec = ActionSpec(
        connector="lab",
        verb=name.replace(".", "_"),
        summary=capability.summary,
        effect=Effect.IDEMPOTENT,
        risk=Risk.NONE,
        capability=name,
        params_schema=capability.params.model_json_schema(),
        result_schema=capability.result.model_json_schema(mode="serialization"),
    )
    return Offer(instance=instance, connector_version="1", spec=spec)


EVERYTHING = Catalogue(
    offers=(*map(offer, CAPABILITIES), Offer(instance="http", connector_version="1", spec=SCHEMALESS)),
    bindings={"*": "lab"},
    capabilities=tuple(CAPABILITIES),
)
NOTHING_BOUND = Catalogue(capabilities=tuple(CAPABILITIES))
