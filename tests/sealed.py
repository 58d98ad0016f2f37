"""Seals for tests: a task with a seal that counts as measured, and short full sets, also with a failing drill.

`python -m tests.sealed` is the command `redline` with a short set.
"""

from collections.abc import Awaitable, Callable

import pytest
from inspect_ai import Task

from redline.cell.config import CellConfig
from redline.scenarios import _full_seal
from redline.seal import Drill

MEASURED = "0" * 64


def under_a_seal(task: Task) -> Task:
    """Bind a task's trials to a seal, so that the task does not spend seconds on the full set."""
    for sample in task.dataset:
        assert sample.metadata is not None
        sample.metadata["trial"]["seal_sha256"] = MEASURED
    return task


async def holds(config: CellConfig) -> str | None:
    """Run a drill that passes."""
    return None


async def survives(config: CellConfig) -> str | None:
    """Run a drill that fails."""
    return "1 of 5 processes survived the kill"


async def errs(config: CellConfig) -> str | None:
    """Run a drill that raises an error."""
    raise ZeroDivisionError("a fault of the drill's own")


def with_a_kill_drill_that(acts: Callable[[CellConfig], Awaitable[str | None]]) -> tuple[Drill, ...]:
    """Return the drills of a short full set: one that passes, and a kill drill that runs `acts`."""
    return (Drill(28, "tether_only_protocol", "", holds), Drill(31, "kill_drill", "", acts))


def shorten_the_seal(patch: pytest.MonkeyPatch) -> None:
    """Measure the seal of runs on one cell only, for tests of something other than the seal.

    tests/scenarios/test_full_seal.py tests that the drills pass on every runtime.
    """
    patch.setattr(_full_seal, "DRILLS", with_a_kill_drill_that(holds))
    patch.setattr(_full_seal, "BOUNDS", Drill(29, "limits_bite", "", holds))


if __name__ == "__main__":
    from redline._cli.main import main

    shorten_the_seal(pytest.MonkeyPatch())
    main()
