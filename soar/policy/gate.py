"""The gate: the only way from a question to a decision, and it fails closed.

An answer counts only if the pinned revision gave it, it is a whole decision document, all of it is understood,
and every mandatory control took part. Everything else is a denial by the control `gate`, journalled like any
other. An engine that gives no answer at all is not a denial: `PolicyUnavailableError` goes to the caller, the
run parks and asks again. Either way nothing is sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import orjson
import structlog
from pydantic import ValidationError

from soar.model.clock import Ids
from soar.model.decision import Decision, DecisionDocument, Reason, Verdict
from soar.policy.port import UNDEFINED, Answer, PolicyEngine

log = structlog.get_logger(__name__)

CONTROL: Final = "gate"

Document = dict[str, Any]
"""A question: the JSON of a `soar.policy.input.PolicyInput`."""


class _RefusedError(Exception):
    """An answer that does not count; `code` and the message become the denial's reason."""

    def __init__(self, code: str, msg: str) -> None:
        super().__init__(msg)
        self.code = code


class _Force:
    """What is in force at one time: replaced whole, never in part."""

    def __init__(self, engine: PolicyEngine, mandatory_controls: Iterable[str]) -> None:
        self.engine = engine
        self.revision = engine.revision  # pinned: an engine that moves on later is a denial
        self.mandatory = frozenset(mandatory_controls)
        self.last: tuple[Answer, DecisionDocument] | None = None


class Gate:
    """Asks one engine and trusts nothing it says until it is checked.

    `mandatory_controls` usually are the bundle's. `honours` names the obligations that the caller carries out: a
    decision with another one is a denial, because an allow whose condition nobody keeps is no allow. `told` hears of
    each decision as soon as it is had; it must neither wait nor fail.
    """

    def __init__(
        self,
        engine: PolicyEngine,
        *,
        mandatory_controls: Iterable[str],
        ids: Ids,
        honours: Iterable[str] = ("approval",),
        told: Callable[[Document, Decision], None] = lambda *_: None,
    ) -> None:
        self._told = told
        self._force = _Force(engine, mandatory_controls)
        self._ids = ids
        self._honours = frozenset(honours)

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self._force.engine.name

    @property
    def revision(self) -> str:
        """The revision that decisions must come from."""
        return self._force.revision

    @property
    def problem(self) -> str | None:
        """Why the engine gives no decisions now; None while all is well."""
        return self._force.engine.problem

    async def open(self) -> None:
        """Make the engine ready; raises `PolicyError` where it must not decide."""
        await self._force.engine.open()

    async def close(self) -> None:
        """Let go of the engine."""
        await self._force.engine.close()

    def replace(self, engine: PolicyEngine, *, mandatory_controls: Iterable[str]) -> PolicyEngine:
        """Ask this engine from now on; returns the one before, for the caller to close.

        What is being decided still is decided whole by the one before, whose `close` waits for that.
        """
        before, self._force = self._force.engine, _Force(engine, mandatory_controls)
        return before

    async def decide(self, document: Document) -> Decision:
        """The decision on one question; raises `PolicyUnavailableError` when no answer could be had."""
        force = self._force  # all that follows is by this engine, even where another replaces it meanwhile
        answer = await force.engine.evaluate(document) if _exact(document) else None
        return self._decided(force, document, answer)

    async def decide_many(self, documents: Sequence[Document]) -> list[Decision]:
        """The decisions on several questions, in their order, for one trip to the engine."""
        force = self._force
        askable = [document for document in documents if _exact(document)]
        answered = await force.engine.evaluate_many(askable) if askable else ()
        answers = {id(document): answer for document, answer in zip(askable, answered, strict=True)}
        return [self._decided(force, document, answers.get(id(document))) for document in documents]

    def _decided(self, force: _Force, document: Document, answer: Answer | None) -> Decision:
        decision = self._decision(force, answer)
        self._told(document, decision)
        return decision

    def _decision(self, force: _Force, answer: Answer | None) -> Decision:
        try:
            document = self._checked(force, answer)
        except _RefusedError as refused:
            reason = Reason(code=f"{CONTROL}.{refused.code}", control=CONTROL, msg=str(refused))
            document = DecisionDocument(effect=Verdict.DENY, reasons=(reason,), controls_evaluated=(CONTROL,))
            log.warning("policy.refused", code=reason.code, why=reason.msg, engine=force.engine.name)
        return Decision(
            id=self._ids.new("decision"),
            effect=document.effect,
            reasons=document.reasons,
            warnings=document.warnings,
            obligations=document.obligations,
            controls_evaluated=document.controls_evaluated,
            engine=force.engine.name,
            revision=force.revision,
        )

    def _checked(self, force: _Force, answer: Answer | None) -> DecisionDocument:
        if answer is None:
            raise _RefusedError("input", "the input holds a number that JSON does not keep exactly")
        if answer.revision != force.revision:
            msg = f"revision {answer.revision or 'none'} answered, not the pinned {force.revision}"
            raise _RefusedError("revision", msg)
        if answer.fault is not None:
            raise _RefusedError("fault", f"the policy failed on this input: {answer.fault}")
        if answer.value is UNDEFINED:
            raise _RefusedError("undefined", "the policy gave no decision: the result is undefined")
        if force.last is None or force.last[0] is not answer:  # an engine with a memory gives the very same again
            force.last = (answer, self._complete(force, _parsed(answer)))
        return force.last[1]

    def _complete(self, force: _Force, document: DecisionDocument) -> DecisionDocument:
        missing = sorted(force.mandatory - set(document.controls_evaluated))
        if missing:
            raise _RefusedError("control_missing", f"mandatory controls were not evaluated: {', '.join(missing)}")
        if document.effect is Verdict.DENY:
            return document
        types = {obligation.type for obligation in document.obligations}
        unkept = sorted(types - self._honours)
        if unkept:
            raise _RefusedError("obligation", f"nobody here carries out the obligations: {', '.join(unkept)}")
        if (document.effect is Verdict.REQUIRE_APPROVAL) != ("approval" in types):
            raise _RefusedError("contradiction", f"effect {document.effect} with obligations {sorted(types)}")
        return document


def _exact(document: Document) -> bool:
    """Whether JSON keeps every number in it: no integer beyond 2**53, no NaN or infinity, which params could hold."""
    try:
        params = document["action"]["params"]
        if b"null" in orjson.dumps(params):  # which is what a NaN becomes
            json.dumps(params, allow_nan=False)
        orjson.dumps(document, option=orjson.OPT_STRICT_INTEGER)
    except (ValueError, TypeError):
        return False
    return True


def _parsed(answer: Answer) -> DecisionDocument:
    try:
        return DecisionDocument.model_validate(answer.value)
    except ValidationError as failure:
        item = failure.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in item["loc"]) or "the document"
        raise _RefusedError("invalid", f"the answer is no decision document: {where}: {item['msg']}") from failure
