"""The ways in: both eras in memory, and each transport once."""

from __future__ import annotations

import pytest

from tests.conftest import Way
from tests.system.conversations.rounds import HERE


@pytest.fixture(params=HERE, ids=str)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param
