"""Tasks that run side by side."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """A task group that raises the first fault of its tasks as it is, so that who waits for them can meet it.

    Yields:
        The group; at the end of the block its tasks are waited for.
    """
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
    except ExceptionGroup as faults:
        raise faults_in(faults)[0] from None


def faults_in(error: Exception) -> list[Exception]:
    """What a group of exceptions is made of, those of groups in it among them; any other error is alone."""
    if isinstance(error, ExceptionGroup):
        return [fault for each in error.exceptions for fault in faults_in(each)]
    return [error]
