"""Task groups: the caller receives the exception of a task itself, not an exception group."""

import anyio
import pytest

from redline._tasks import faults_in, task_group

pytestmark = pytest.mark.anyio


async def fail(seconds: float, fault: Exception) -> None:
    await anyio.sleep(seconds)
    raise fault


async def test_the_exception_of_a_task_is_raised_itself_and_cancels_the_others() -> None:
    with pytest.raises(ZeroDivisionError), anyio.fail_after(5):
        async with task_group() as tasks:
            tasks.start_soon(fail, 0.01, ZeroDivisionError())
            await anyio.sleep_forever()


async def test_the_exception_of_the_block_is_raised_itself_too() -> None:
    with pytest.raises(LookupError, match="lost"):
        async with task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            raise LookupError("lost")


async def test_a_nested_group_is_raised_as_its_exception() -> None:
    with pytest.raises(OSError, match="gone"):
        async with task_group(), anyio.create_task_group() as inner:
            inner.start_soon(fail, 0, OSError("gone"))


async def test_a_cancelled_group_raises_nothing() -> None:
    async with task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        tasks.cancel_scope.cancel()


def test_the_exceptions_of_a_group_include_those_of_nested_groups() -> None:
    first, second, third = OSError("1"), ValueError("2"), KeyError("3")
    group = ExceptionGroup("outer", [first, ExceptionGroup("inner", [second, third])])
    assert faults_in(group) == [first, second, third]
    assert faults_in(first) == [first]
