"""Canonical JSON is RFC 8785, on the quick way as on the long one."""

from __future__ import annotations

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from soar.model.base import canonical, digest

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\x7f", "\u2028", "\\/"])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(VALUES)
def test_bytes_are_those_of_rfc_8785_and_so_are_refusals(value: object) -> None:
    try:
        expected = rfc8785.dumps(value)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - whichever says no
            canonical(value)
    else:
        assert canonical(value) == expected


@pytest.mark.parametrize(
    "value", [{"b": 1, "a": [True, None, "x\n\x01"]}, {"a": (1, 2)}, "", [], {}, 2**53 - 1, -(2**53) + 1]
)
def test_the_quick_way_agrees(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)


def test_equal_values_have_equal_digests_whatever_their_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": True})
