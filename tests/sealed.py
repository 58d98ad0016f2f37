"""Seals for tests: trials under one that was measured before, and full sets that are short or of which a drill fails.

`python -m tests.sealed` is the command `redline` with such a short set.
"""

from collections.abc import Awaitable, Callable

import pytest
from inspect_ai import Task

from redline.cell.config import CellConfig
from redline.scenarios import _full_seal
from redline.seal import Drill

MEASURED = "0" * 64


def under_a_seal(task: Task) -> Task:
    """Binds a task's trials to a seal, so that the task does not measure the full set itself, which takes seconds."""
    for sample in task.dataset:
        assert sample.metadata is not None
        sample.metadata["trial"]["seal_sha256"] = MEASURED
    return task


async def holds(config: CellConfig) -> str | None:
    """A drill in which all is well."""
    return None


async def survives(config: CellConfig) -> str | None:
    """A drill that finds something."""
    return "1 of 5 processes survived the kill"


async def errs(config: CellConfig) -> str | None:
    """A drill that is at fault itself."""
    raise ZeroDivisionError("a fault of the drill's own")


def with_a_kill_drill_that(acts: Callable[[CellConfig], Awaitable[str | None]]) -> tuple[Drill, ...]:
    """The drills of a full set that is fast, since the others are left out: all that is wrong is what `acts` finds."""
    return (Drill(28, "tether_only_protocol", "", holds), Drill(31, "kill_drill", "", acts))


def shorten_the_seal(patch: pytest.MonkeyPatch) -> None:
    """Has a run's seal be measured by looking at one cell alone: what is tested is not the seal.

    That the drills hold too, on every runtime, is shown in tests/scenarios/test_full_seal.py.
    """
    patch.setattr(_full_seal, "DRILLS", with_a_kill_drill_that(holds))
    patch.setattr(_full_seal, "BOUNDS", Drill(29, "limits_bite", "", holds))


if __name__ == "__main__":
    from redline._cli.main import main

    shorten_the_seal(pytest.MonkeyPatch())
    main()
