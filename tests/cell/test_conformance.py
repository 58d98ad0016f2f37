"""Inspect's own conformance suite for sandbox providers, run against the cell."""

from collections.abc import AsyncIterator

import pytest

# The suite is private but thorough; pytest collects its checks from here.
from inspect_ai.util._sandbox.self_check import *  # noqa: F403 - pytest collects what a module holds

from redline.cell import CellConfig, open_cell
from redline.cell.provider import CellEnvironment

pytestmark = [pytest.mark.cell, pytest.mark.anyio]

CANNOT_HOLD: dict[str, str] = {
    "test_exec_as_user": "it adds a user, which writes /etc and /run: the root of a cell is read-only",
}
"""Checks that a cell cannot pass by its design, each with the reason."""


@pytest.fixture
async def sandbox_env(request: pytest.FixtureRequest) -> AsyncIterator[CellEnvironment]:
    reason = CANNOT_HOLD.get(request.node.originalname)
    if reason:  # strict: a check that passes after all has no place among those that cannot
        request.node.add_marker(pytest.mark.xfail(reason=reason, strict=True))
    async with open_cell(CellConfig()) as cell:
        yield CellEnvironment(cell, "default")
