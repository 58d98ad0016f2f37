"""Concurrent tasks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """Run a task group that raises the first exception of its tasks unwrapped, so that callers can catch it.

    Yields:
        The group; the end of the block waits for its tasks.
    """
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
    except ExceptionGroup as faults:
        raise faults_in(faults)[0] from None


def faults_in(error: Exception) -> list[Exception]:
    """Return the exceptions in a group, including nested groups; any other error is returned alone."""
    if isinstance(error, ExceptionGroup):
        return [fault for each in error.exceptions for fault in faults_in(each)]
    return [error]
