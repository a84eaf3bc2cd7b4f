"""A call that ends in five seconds."""

import pytest
from .exchanges import make_call

from soar.connector.base import Call


@pytest.fixture
def call() -> Call:
    return make_call()
