"""What can be used here: the configured connector instances, their actions, and the capability bindings."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cached_property

from pydantic import Field

from soar.model.action import ActionSpec
from soar.model.base import Frozen
from soar.model.limits import Limits


class Offer(Frozen):
    """One action of one configured instance."""

    instance: str
    connector_version: str
    spec: ActionSpec


class Catalogue(Frozen):
    """Resolves the word after `use:`.

    `ticket.create` is looked up in `bindings` (`ticket.*` or `ticket.create` -> instance); `jira-prod.create_issue`
    names an instance; `jira.create_issue` names a connector and works where exactly one instance of it is configured.
    """

    offers: tuple[Offer, ...] = ()
    bindings: dict[str, str] = Field(default_factory=dict)
    capabilities: tuple[str, ...] = ()  # all capability names soar knows, bound or not
    limits: dict[str, Limits] = Field(default_factory=dict)  # of the instances that have any

    def resolve(self, use: str) -> Offer | None:
        """The action that `use` means, or None."""
        if use not in self._meant:
            self._meant[use] = self._looked_up(use)
        return self._meant[use]

    @cached_property
    def _meant(self) -> dict[str, Offer | None]:
        return {}  # a playbook's few words, asked again with every action

    def _looked_up(self, use: str) -> Offer | None:
        if use in self.capabilities:
            return self._bound(use)
        owner, _, verb = use.partition(".")
        named = [o for o in self.offers if o.instance == owner and o.spec.verb == verb]
        same = named or [o for o in self.offers if o.spec.connector == owner and o.spec.verb == verb]
        return same[0] if len(same) == 1 else None

    def why_not(self, use: str) -> str:
        """One sentence saying why `use` resolves to nothing, with the remedy."""
        if use in self.capabilities:
            instance = self._instance_for(use)
            if instance is None:
                return f"capability {use!r} is bound to no connector; add it under bindings: in soar.yaml"
            return f"capability {use!r} is bound to {instance!r}, which does not offer it"
        owner, _, verb = use.partition(".")
        several = sorted({o.instance for o in self.offers if o.spec.connector == owner and o.spec.verb == verb})
        if len(several) > 1:
            return f"{use!r} could mean any of {', '.join(several)}; name the instance"
        return f"no action {use!r}"

    def names(self) -> list[str]:
        """Every word that `use:` accepts here, for suggestions and completion."""
        own = {f"{o.instance}.{o.spec.verb}" for o in self.offers} | {o.spec.name for o in self.offers}
        return sorted(own | set(self.capabilities))

    def _instance_for(self, capability: str) -> str | None:
        if capability in self.bindings:
            return self.bindings[capability]
        fits = [pattern for pattern in self.bindings if fnmatchcase(capability, pattern)]
        return self.bindings[max(fits, key=len)] if fits else None

    def _bound(self, capability: str) -> Offer | None:
        instance = self._instance_for(capability)
        fits = [o for o in self.offers if o.instance == instance and o.spec.capability == capability]
        return fits[0] if len(fits) == 1 else None
