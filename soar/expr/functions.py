"""The functions an expression may call: JMESPath's own, and a few for analysts. All are pure.

A null text gives null (or false where the answer is a boolean), so that a field which a product does not fill
makes a condition not hold instead of failing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import re2
from jmespath import functions
from jmespath.functions import signature

from soar.expr.bounds import Budget, refuse

_TEXT: Any = MappingProxyType({"types": ("string", "null")})
_FIXED: Any = MappingProxyType({"types": ("string",)})
_ANY: Any = MappingProxyType({"types": ()})
_DEEP = frozenset({"to_string", "contains"})


class Functions(functions.Functions):
    """JMESPath's functions and ours, paid for from one budget."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def call_function(self, function_name: str, resolved_args: Iterable[Any]) -> Any:
        """Pay for the arguments, call, and bound the text that comes out."""
        arguments = list(resolved_args)
        for value in arguments:
            if function_name in _DEEP:
                self.budget.weigh(value)
            elif isinstance(value, list | dict):
                self.budget.spend(len(value))
        if function_name == "join":
            self._bound_join(arguments)
        result = super().call_function(function_name, arguments)
        if isinstance(result, str):
            self.budget.text(len(result))
        return result

    def _bound_join(self, arguments: list[Any]) -> None:
        """Before the text is made: many copies of a long separator come cheap otherwise."""
        separator, parts = arguments
        if isinstance(separator, str) and isinstance(parts, list):
            self.budget.text(sum(len(part) for part in parts if isinstance(part, str)) + len(separator) * len(parts))

    @signature(_TEXT)
    def _func_lower(self, text: str | None) -> str | None:
        return text if text is None else text.lower()

    @signature(_TEXT)
    def _func_upper(self, text: str | None) -> str | None:
        return text if text is None else text.upper()

    @signature(_TEXT)
    def _func_trim(self, text: str | None) -> str | None:
        return text if text is None else text.strip()

    @signature(_TEXT, _FIXED)
    def _func_split(self, text: str | None, separator: str) -> list[str] | None:
        if text is None:
            return None
        parts = text.split(separator) if separator else list(text)
        self.budget.spend(len(parts))
        return parts

    @signature(_ANY, _ANY)
    def _func_default(self, value: Any, otherwise: Any) -> Any:
        return otherwise if value is None else value

    @signature(_TEXT, _FIXED)
    def _func_matches(self, text: str | None, pattern: str) -> bool:
        if text is None:
            return False
        self.budget.spend(1 + len(text) // 100)
        return pattern_of(pattern, self.budget.source).search(text) is not None

    @signature(_FIXED, _TEXT)
    def _func_cidr_contains(self, network: str, address: str | None) -> bool:
        inside = network_of(network, self.budget.source)
        try:
            return address is not None and ipaddress.ip_address(address) in inside
        except ValueError:  # alerts carry host names and worse where an address should be
            return False


@lru_cache(maxsize=512)
def pattern_of(pattern: str, source: str) -> Any:
    """A compiled RE2 pattern: time linear in the text, whatever the pattern; raises ExpressionError."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error as failure:
        said = failure.args[0] if failure.args else failure
        reason = said.decode(errors="replace") if isinstance(said, bytes) else said
        raise refuse(
            source, f"{pattern!r} is no RE2 pattern ({reason}); see github.com/google/re2/wiki/Syntax"
        ) from failure


@lru_cache(maxsize=512)
def network_of(network: str, source: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A parsed network; raises ExpressionError."""
    try:
        return ipaddress.ip_network(network, strict=False)
    except ValueError as failure:
        raise refuse(source, f"{network!r} is no network; write it as 10.0.0.0/8") from failure


def known() -> dict[str, list[dict[str, Any]]]:
    """Every function's name and the declaration of its arguments."""
    return {name: list(row["signature"]) for name, row in sorted(Functions.FUNCTION_TABLE.items())}
