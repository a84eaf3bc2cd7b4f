"""What is wrong with a playbook that reads well: names that mean nothing here, expressions that do not compile."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from soar.errors import ExpressionError, PlaybookError
from soar.expr.compile import Expression, compile_expression
from soar.expr.functions import network_of
from soar.expr.render import compile_template
from soar.library.blocks import branches, error_steps, walk
from soar.library.fields import trouble_with
from soar.library.parse import Parsed
from soar.library.scope import Scope
from soar.located import Located, Path_, did_you_mean
from soar.model.alert import Alert, Severity
from soar.model.catalogue import Catalogue, Offer
from soar.model.duration import format_duration
from soar.model.playbook import (
    ActionStep,
    AskStep,
    CallStep,
    ForeachStep,
    Match,
    ParallelStep,
    Playbook,
    SetStep,
    Step,
    StopStep,
    SwitchStep,
    Trigger,
    WaitStep,
)


def lint(parsed: Parsed, catalogue: Catalogue, playbook_ids: Collection[str]) -> list[PlaybookError]:
    """Everything wrong with a parsed file, parse errors included, in the order of the file.

    `playbook_ids` are the playbooks that `call` can reach.
    """
    if parsed.playbook is None or parsed.located is None:
        return list(parsed.errors)
    linter = _Linter(parsed.playbook, parsed.located, catalogue, playbook_ids)
    linter.check()
    start = parsed.located.place(())
    return sorted(linter.errors, key=lambda error: error.place or start)


class _Linter:
    def __init__(
        self, playbook: Playbook, located: Located, catalogue: Catalogue, playbook_ids: Collection[str]
    ) -> None:
        self.playbook = playbook
        self.located = located
        self.catalogue = catalogue
        self.playbook_ids = playbook_ids
        self.errors: list[PlaybookError] = []
        self.walked = list(walk(playbook))

    def fail(self, message: str, path: Path_, *, key: bool = False) -> None:
        self.errors.append(PlaybookError(message, self.located.place(path, key=key)))

    def check(self) -> None:
        playbook = self.playbook
        self.ids()
        self.timeouts()
        if playbook.on is not None:
            self.trigger(playbook.on, ("on",))
        for index, source in enumerate(playbook.dedupe.key if playbook.dedupe else ()):
            self.on_alert(source, ("dedupe", "key", index))
        if playbook.lock is not None:
            self.on_alert(playbook.lock, ("lock",))
        if "${{" in str(playbook.vars):
            self.fail("'vars' are fixed values; compute with a set: step", ("vars",))
        steps = frozenset(step.id for step, _ in self.walked if step.id)
        names = frozenset(playbook.vars) | frozenset(playbook.inputs.get("properties", {}))
        scope = self.steps(playbook.steps, ("steps",), Scope(steps, self.results(), names=names))
        self.steps(playbook.on_error, ("on_error",), replace(scope, names=scope.names | {"error"}))
        self.template(playbook.outputs, ("outputs",), scope)

    def ids(self) -> None:
        seen: dict[str, int] = {}
        for step, path in self.walked:
            if step.id in seen:
                self.fail(f"step id {step.id!r} stands already in line {seen[step.id]}; rename one", (*path, "id"))
            elif step.id:
                seen[step.id] = step.line

    def timeouts(self) -> None:
        """A timeout that nothing would keep is worse than none."""
        for step, path in self.walked:
            if step.timeout is not None and isinstance(step, SetStep | StopStep):
                self.fail(f"a {step.kind} step takes no time, so no timeout; remove it", (*path, "timeout"), key=True)
            elif step.timeout is not None and not step.timeout:
                self.fail("in no time nothing is done; give 'timeout' more than 0s", (*path, "timeout"))

    def results(self) -> dict[str, frozenset[str]]:
        """The declared result fields of every action step with an id."""
        found = {}
        for step, _ in self.walked:
            if isinstance(step, ActionStep) and step.id and (offer := self.catalogue.resolve(step.use)):
                schema = offer.spec.result_schema
                found[step.id] = (
                    frozenset() if schema.get("additionalProperties") else frozenset(schema.get("properties", {}))
                )
        return found

    # expressions

    def expression(self, source: str, path: Path_, scope: Scope) -> None:
        """A condition: bare JMESPath over the run."""
        if source.lstrip().startswith("${{"):
            self.fail("a condition is an expression already; remove ${{ and }}", path)
            return
        try:
            self.references([compile_expression(source)], path, scope)
        except ExpressionError as failure:
            self.fail(failure.message, path)

    def template(self, value: Any, path: Path_, scope: Scope) -> None:
        """A value with `${{ }}` in it; each text is checked where it stands."""
        if isinstance(value, dict | list | tuple):
            for key, child in value.items() if isinstance(value, dict) else enumerate(value):
                self.template(child, (*path, key), scope)
                if "${{" in str(key):
                    self.fail(f"the key {key!r} holds an expression; only values are rendered", (*path, key), key=True)
        elif isinstance(value, str) and "${{" in value:
            try:
                self.references(compile_template(value).expressions(), path, scope)
            except ExpressionError as failure:
                self.fail(failure.message, path)

    def references(self, expressions: Iterable[Expression], path: Path_, scope: Scope) -> None:
        for expression in expressions:
            for trouble in scope.troubles(expression.references()):
                self.fail(f"expression {expression.source!r}: {trouble}", path)

    def on_alert(self, source: str, path: Path_) -> None:
        """An expression whose root is the alert itself: in triggers, dedupe keys and locks there is no run yet."""
        try:
            references = compile_expression(source).references()
        except ExpressionError as failure:
            self.fail(failure.message, path)
            return
        for reference in references:
            if reference[0] == "alert":
                rest = ".".join(reference[1:]) or "@"
                self.fail(f"expression {source!r}: the alert itself is the root here; write {rest}", path)
            elif reference[0] not in Alert.model_fields and reference[0] != "*":
                hint = did_you_mean(reference[0], Alert.model_fields)
                self.fail(f"expression {source!r}: an alert has no field {reference[0]!r}{hint}", path)

    # triggers

    def trigger(self, trigger: Trigger, path: Path_, scope: Scope | None = None) -> None:
        for field, match in trigger.match.items():
            under = (*path, "match", field)
            if trouble := trouble_with(field):
                self.fail(trouble, under, key=True)
            self.match(field, match, under)
            if scope is not None:
                self.template(match.model_dump(mode="json", exclude_none=True), under, scope)
        if trigger.where is not None:
            self.on_alert(trigger.where, (*path, "where"))

    def match(self, field: str, match: Match, path: Path_) -> None:
        for operator in ("cidr", "not_cidr"):
            for network in getattr(match, operator) or ():
                try:
                    network_of(network, network)
                except ExpressionError:
                    self.fail(f"{network!r} is no network; write such as 10.0.0.0/8", (*path, operator))
        for operator in ("wildcard", "not_wildcard"):
            if any("${{" in pattern for pattern in getattr(match, operator) or ()):
                self.fail("a pattern is fixed text, so that no alert brings a * of its own", (*path, operator))
        if field == "severity":
            for word in (*(match.any_of or ()), *(match.none_of or ())):
                if word not in list(Severity) and "${{" not in str(word):
                    hint = did_you_mean(str(word), map(str, Severity)) or f"; the words are {', '.join(Severity)}"
                    self.fail(f"{word!r} is no severity{hint}", path)

    # steps

    def steps(self, steps: tuple[Step, ...], path: Path_, scope: Scope) -> Scope:
        """Check steps in order; the scope behind the last."""
        for index, step in enumerate(steps):
            scope = self.step(step, (*path, index), scope)
        return scope

    def step(self, step: Step, path: Path_, scope: Scope) -> Scope:
        if step.if_ is not None:
            self.expression(step.if_, (*path, "if"), scope)
        behind = self.form(step, path, scope).after(step.id)
        handlers = error_steps(step)
        if handlers is None:
            return behind
        return behind.joined([self.steps(handlers.steps, (*path, *handlers.path), behind)])

    def form(self, step: Step, path: Path_, scope: Scope) -> Scope:
        match step:
            case ActionStep():
                self.action(step, path, scope)
            case SwitchStep():
                self.expression(step.switch, (*path, "switch"), scope)
            case ForeachStep():
                return self.foreach(step, path, scope)
            case WaitStep():
                self.wait(step, path, scope)
            case CallStep():
                self.call(step, path, scope)
            case AskStep():
                self.ask(step, path, scope)
            case SetStep():
                self.template(step.set, (*path, "set"), scope)
                return replace(scope, names=scope.names | frozenset(step.set))
            case StopStep():
                self.template(step.message, (*path, "message"), scope)
            case ParallelStep():
                alone = [self.step(one, (*path, "parallel", at), scope) for at, one in enumerate(step.parallel)]
                return scope.joined(alone)
        return scope.joined([self.steps(block.steps, (*path, *block.path), scope) for block in branches(step)])

    def foreach(self, step: ForeachStep, path: Path_, scope: Scope) -> Scope:
        """What a body defines exists once per element, so nothing of it is seen behind the loop."""
        self.expression(step.foreach, (*path, "foreach"), scope)
        self.steps(step.do, (*path, "do"), replace(scope, items=frozenset({step.as_, "index"})))
        return scope

    def wait(self, step: WaitStep, path: Path_, scope: Scope) -> None:
        under = (*path, "wait")
        if step.until is not None:
            self.expression(step.until, (*under, "until"), scope)
        if step.for_alert is not None:
            self.trigger(step.for_alert, (*under, "for_alert"), scope)
            if step.timeout is None:
                self.fail("a wait for an alert may last for ever; add timeout: such as 2h", path)

    def ask(self, step: AskStep, path: Path_, scope: Scope) -> None:
        self.template(step.ask, (*path, "ask"), scope)
        if (step.answer == "choice") != bool(step.options):
            self.fail("'answer: choice' and options: go together; add the other, or remove both", path)

    def call(self, step: CallStep, path: Path_, scope: Scope) -> None:
        if step.call not in self.playbook_ids:
            self.fail(f"no playbook {step.call!r}{did_you_mean(step.call, self.playbook_ids)}", (*path, "call"))
        self.template(step.with_, (*path, "with"), scope)

    def action(self, step: ActionStep, path: Path_, scope: Scope) -> None:
        self.template(step.with_, (*path, "with"), scope)
        offer = self.use(step.use, (*path, "use"))
        if offer is not None:
            self.params(offer, step.with_, path)
        for role, second in (("verify", step.verify), ("undo", step.undo)):
            if second is None:
                continue
            other = self.use(second.use, (*path, role, "use"))
            if other is not None:
                self.params(other, second.with_ or step.with_, (*path, role), inherited=not second.with_)
            self.template(second.with_, (*path, role, "with"), scope)
        asked = step.approval
        if asked is not None and asked.escalate is not None and asked.escalate.after >= asked.expires:
            late = (
                f"the request ends after {format_duration(asked.expires)}, before it would escalate; make 'after' less"
            )
            self.fail(late, (*path, "approval", "escalate", "after"))
        if step.verify is not None:
            self.expression(step.verify.until, (*path, "verify", "until"), replace(scope, roots=("result",)))

    def use(self, use: str, path: Path_) -> Offer | None:
        offer = self.catalogue.resolve(use)
        if offer is None:
            why = self.catalogue.why_not(use)
            hint = did_you_mean(use, self.catalogue.names()) if why.startswith("no action") else ""
            self.fail(f"{why}{hint}", path)
        return offer

    def params(self, offer: Offer, given: dict[str, Any], path: Path_, *, inherited: bool = False) -> None:
        """The names of an action's params against its schema. Inherited ones may be more than it takes."""
        schema, name = offer.spec.params_schema, offer.spec.capability or offer.spec.name
        known = list(schema.get("properties", {}))
        strange = [] if inherited or schema.get("additionalProperties") else [key for key in given if key not in known]
        for key in strange:
            hint = did_you_mean(key, known) or f"; it takes {', '.join(known) or 'nothing'}"
            self.fail(f"{name} takes no {key!r}{hint}", (*path, "with", key), key=True)
        for key in schema.get("required", ()):
            if key not in given and not did_you_mean(key, strange):
                self.fail(f"{name} needs {key!r}; add it under with:", path)
