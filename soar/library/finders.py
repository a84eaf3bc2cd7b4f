"""For one operator on one field: which playbooks want something that an alert has there, without asking them.

Every playbook is one bit of an integer. A finder is made of the operands and the bits of those who want each; `hit`
gives the bits of all whose operand some value meets. None of them looks at more playbooks than are hit: values are
looked up, cut to the lengths of the prefixes there are, or masked to the lengths of the networks there are;
thresholds are sorted and bisected; a wildcard is tried only where three characters in a row of it are found.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from operator import or_
from types import MappingProxyType
from typing import Any, Protocol

from soar.library.predicates import addresses, fits, network, rank, same

Bits = Mapping[Any, int]


class Finder(Protocol):
    """Finds the playbooks whose operand is met."""

    def hit(self, values: Sequence[Any]) -> int:
        """The bits of those for whom one of the values will do."""
        ...


class _Equal:
    def __init__(self, bits_at: Bits) -> None:
        self._by_value = bits_at

    def hit(self, values: Sequence[Any]) -> int:
        found = 0
        for value in values:
            if not isinstance(value, dict):
                found |= self._by_value.get(same(value), 0)
        return found


class _Affix:
    """A prefix is an equal text, once the alert's is cut to the same length; so is a suffix."""

    def __init__(self, bits_at: Bits, *, head: bool) -> None:
        self._bits_at = bits_at
        self._lengths = sorted({len(text) for text in bits_at})
        self._head = head

    def hit(self, values: Sequence[Any]) -> int:
        found = 0
        for value in values:
            size = len(value) if isinstance(value, str) else -1
            for length in self._lengths:
                if length > size:
                    break
                found |= self._bits_at.get(value[:length] if self._head else value[size - length :], 0)
        return found


_GRAM = 3
_LEFT, _RIGHT = "\0", "\1"  # stand for the ends of a text; where it holds them itself, more is tried, nothing missed


class _Wildcards:
    """Each is kept under the rarest three characters in a row that a text must have to be like it."""

    def __init__(self, bits_at: Bits) -> None:
        self._anywhere: list[tuple[list[str], int]] = []  # too short for that: tried on every text
        self._by_gram: dict[str, list[tuple[list[str], int]]] = {}
        options = {pattern: _grams(pattern) for pattern in bits_at}
        uses: dict[str, int] = defaultdict(int)
        for grams in options.values():
            for gram in grams:
                uses[gram] += 1
        for pattern, bits in bits_at.items():
            grams = options[pattern]
            under = self._by_gram.setdefault(min(grams, key=uses.__getitem__), []) if grams else self._anywhere
            under.append((pattern.split("*"), bits))

    def hit(self, values: Sequence[Any]) -> int:
        found = 0
        for value in values:
            if isinstance(value, str):
                tried = [self._anywhere, *(self._by_gram[gram] for gram in self._by_gram.keys() & _windows(value))]
                for pieces, bits in (each for some in tried for each in some):
                    if fits(pieces, value):
                        found |= bits
        return found


def _windows(text: str) -> set[str]:
    return _cut(f"{_LEFT}{text}{_RIGHT}")


def _grams(pattern: str) -> list[str]:
    return sorted({gram for piece in f"{_LEFT}{pattern}{_RIGHT}".split("*") for gram in _cut(piece)})


def _cut(text: str) -> set[str]:
    return {text[at : at + _GRAM] for at in range(len(text) - _GRAM + 1)}


class _Networks:
    """By version and length of the prefix, so that an address is masked once for each length there is."""

    def __init__(self, bits_at: Bits) -> None:
        self._by_length: dict[int, list[tuple[int, dict[int, int]]]] = {4: [], 6: []}
        lengths: dict[tuple[int, int], dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for text, bits in bits_at.items():
            one = network(text)
            lengths[one.version, int(one.netmask)][int(one.network_address)] |= bits
        for (version, mask), by_address in lengths.items():
            self._by_length[version].append((mask, dict(by_address)))

    def hit(self, values: Sequence[Any]) -> int:
        found = 0
        for address in addresses(values):
            for mask, by_address in self._by_length[address.version]:
                found |= by_address.get(int(address) & mask, 0)
        return found


class _Ordered:
    """Thresholds of one scale in ascending order, each position with the bits of all that a value there passes."""

    def __init__(self, bits_at: Bits, *, scale: str, at_least: bool) -> None:
        pairs = sorted(((rank(limit) or (scale, 0.0))[1], bits) for limit, bits in bits_at.items())
        limits, bits = [limit for limit, _ in pairs], [each for _, each in pairs]
        self._scale, self._limits = scale, limits
        self._find = bisect_right if at_least else bisect_left
        if at_least:
            self._passing = list(accumulate(bits, or_, initial=0))
        else:
            self._passing = list(accumulate(reversed(bits), or_, initial=0))[::-1]

    def hit(self, values: Sequence[Any]) -> int:
        found = 0
        for scale, position in filter(None, map(rank, values)):
            if scale == self._scale:
                found |= self._passing[self._find(self._limits, position)]
        return found


class _Anything:
    """Where something is there at all."""

    def __init__(self, bits_at: Bits) -> None:
        (self._bits,) = bits_at.values()

    def hit(self, values: Sequence[Any]) -> int:
        return self._bits if values else 0


_KINDS: Mapping[str, Callable[[Bits], Finder]] = MappingProxyType(
    {
        "any_of": _Equal,
        "prefix": lambda bits_at: _Affix(bits_at, head=True),
        "suffix": lambda bits_at: _Affix(bits_at, head=False),
        "wildcard": _Wildcards,
        "cidr": _Networks,
        "exists": _Anything,
    }
)


def finder(operator: str, scale: str, bits_at: Bits) -> Finder:
    """The finder for an operator and, with thresholds, the scale that they are on.

    `bits_at` holds bits by operand, each as `same` gives it.
    """
    if scale:
        return _Ordered(bits_at, scale=scale, at_least=operator == "at_least")
    return _KINDS[operator](bits_at)
