"""Tasks that run side by side: whoever waits for them meets their fault as it is."""

import anyio
import pytest

from redline._tasks import faults_in, task_group

pytestmark = pytest.mark.anyio


async def fail(seconds: float, fault: Exception) -> None:
    await anyio.sleep(seconds)
    raise fault


async def test_the_fault_of_a_task_is_met_as_it_is_and_ends_the_others() -> None:
    with pytest.raises(ZeroDivisionError), anyio.fail_after(5):
        async with task_group() as tasks:
            tasks.start_soon(fail, 0.01, ZeroDivisionError())
            await anyio.sleep_forever()


async def test_the_fault_of_the_block_is_met_as_it_is_too() -> None:
    with pytest.raises(LookupError, match="lost"):
        async with task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            raise LookupError("lost")


async def test_a_group_in_a_group_is_met_as_its_fault() -> None:
    with pytest.raises(OSError, match="gone"):
        async with task_group(), anyio.create_task_group() as inner:
            inner.start_soon(fail, 0, OSError("gone"))


async def test_a_cancelled_group_has_no_fault() -> None:
    async with task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        tasks.cancel_scope.cancel()


def test_the_faults_of_a_group_are_those_of_all_groups_in_it() -> None:
    first, second, third = OSError("1"), ValueError("2"), KeyError("3")
    group = ExceptionGroup("outer", [first, ExceptionGroup("inner", [second, third])])
    assert faults_in(group) == [first, second, third]
    assert faults_in(first) == [first]
