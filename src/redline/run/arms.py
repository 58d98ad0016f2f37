"""Inspect tasks of a plan's arms, and the cell shapes that these tasks need."""

from collections.abc import Sequence

from inspect_ai import Task

from redline._errors import RedlineError, UsageError
from redline._names import one_line
from redline.catalog import scenarios
from redline.cell import CellConfig
from redline.plan import Arm, Plan

SOURCE_OF_TASK = "__task_file__"


def arm_task(arm: Arm, plan: Plan) -> Task:
    """Return the Inspect task of one arm.

    Raises:
        UsageError: The scenario does not accept the arm's factors.
    """
    settings = {"trials": plan.trials_of(arm), "seed": plan.seed, "hold": plan.hold, "runtime": plan.runtime}
    try:
        task = scenarios()[arm.scenario].task(**arm.factors, **settings)
    except RedlineError:
        raise
    except ValueError as error:
        raise UsageError(f"{arm.scenario}: {one_line(error)}") from error
    if not isinstance(task, Task):
        raise TypeError(f"{arm.scenario} returned a {type(task).__name__}, not a task")
    # Inspect identifies a task by, among other things, the path of its source relative to the working folder. With that
    # path, a run resumed from another folder would not recognise its own logs.
    setattr(task, SOURCE_OF_TASK, None)
    return task


def shapes_of(tasks: Sequence[Task]) -> dict[CellConfig, list[Task]]:
    """Return the tasks by the shape of their cells."""
    shapes: dict[CellConfig, list[Task]] = {}
    for task in tasks:
        if task.sandbox is not None and isinstance(task.sandbox.config, CellConfig):
            shapes.setdefault(task.sandbox.config, []).append(task)
    return shapes
