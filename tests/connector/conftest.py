"""A call that ends in five seconds."""

import pytest

from soar.connector.base import Call

from .exchanges import make_call


@pytest.fixture
def call() -> Call:
    return make_call()
