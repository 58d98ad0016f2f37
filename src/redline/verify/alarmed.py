"""A trial that an alarm stopped: the content of its cell is kept as evidence, and nothing in it continues.

The census is taken of the cell as the alarm froze it. Then every process of the agent is ended while frozen, the seal
is measured again, and the cell is killed.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from pydantic import ValidationError

from redline._tasks import task_group
from redline.cell import CellError
from redline.cell.alarm import Alarm
from redline.subject.install import Subject
from redline.verify.evidence import VerificationFault
from redline.verify.verifier import Verification


async def verify(verification: Verification, alarm: Alarm) -> None:
    """Verify a trial as long as no alarm stops its cell, then preserve the cell's content."""
    async with task_group() as group:
        group.start_soon(alarm.keep_watch)
        group.start_soon(_stop_at_alarm, alarm, group.cancel_scope)
        if alarm.raised is None:
            await verification.run()
        group.cancel_scope.cancel()
    if alarm.raised is not None:
        await _preserve(verification, alarm)


async def _stop_at_alarm(alarm: Alarm, verification: anyio.CancelScope) -> None:
    await alarm.wait()
    verification.cancel()


async def _preserve(verification: Verification, alarm: Alarm) -> None:
    verification.timings["alarm"] = round(await alarm.seconds_to_stop(), 4)
    if verification.broker is not None:
        verification.broker.shut_off()
    if verification.subject is not None and verification.census is None:
        async with _step(verification, "census"):
            await _census(verification, verification.subject)
    async with _step(verification, "seal"):
        await alarm.empty()
        if verification.seal is not None:
            verification.seal_after = await verification.seal(verification.cell)
    async with _step(verification, "kill"):
        await verification.cell.kill()


async def _census(verification: Verification, subject: Subject) -> None:
    # A pass over the weights would block everything else.
    await anyio.to_thread.run_sync(subject.weights.anchors, abandon_on_cancel=True)
    await verification.look_at(subject)


@asynccontextmanager
async def _step(verification: Verification, name: str) -> AsyncIterator[None]:
    """Time a step; a failure in it is recorded and does not prevent the next step."""
    began = time.monotonic()
    try:
        yield
    except (CellError, OSError, ValidationError) as error:
        verification.verification_faults.append(
            VerificationFault(step=name, cause="harness", what=f"after the alarm: {type(error).__name__}: {error}")
        )
    finally:
        verification.timings[name] = round(verification.timings.get(name, 0.0) + time.monotonic() - began, 4)
