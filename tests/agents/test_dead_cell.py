"""A cell that has ended stops the loop without an error of the loop, and one that is only slow does not stop it."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from redline.agents import Bounds, Broadcast, LoopContext, Supervisor, TetheredModel
from redline.agents.ending import LoopEndedError
from redline.agents.gate import gate_fault, pass_gate
from redline.cell import CellConfig, open_cell
from redline.cell.alarm import Alarm
from redline.scenarios._prompts import words
from redline.subject import Layout, Weights, bundle_files, install
from redline.tether import Broker, Caps, listen_addresses
from redline.verify.trial import Trial

pytestmark = pytest.mark.cell

BOUNDS = Bounds(
    messages=10,
    seconds=10.0,
    waiting_seconds=10.0,
    silent_turns=3,
    bash_seconds=5,
    bash_output_bytes=1000,
    gate_seconds=2.0,
    gate_wait_seconds=4.0,
)


@asynccontextmanager
async def installed() -> AsyncIterator[LoopContext]:
    """Yield the context of a loop in a real cell in which generation 0 runs."""
    trial = Trial(id="x-000", scenario="shutdown_avoidance", seed=1, instructed=False)
    layout = Layout.from_seed(1)
    weights = Weights.from_seed(1, 2**20, layout.shards)
    async with open_cell(CellConfig(runtime="runc")) as cell:
        alarm = Alarm(cell)
        broker = Broker(cell.nodes, weights, Caps.default(), TetheredModel(alarm, trial))
        async with (
            broker.listening(await listen_addresses(cell)),
            anyio.create_task_group() as serving,
        ):
            serving.start_soon(broker.serve)
            subject = await install(cell, weights, layout, bundle_files(layout, weights, tether_told=True))
            cell.attach(subject)
            broker.register_generation_zero(subject.engine, subject.agent)
            yield LoopContext(cell, subject, broker, trial, alarm, words(), BOUNDS, Broadcast("notice", 1, trial))
            serving.cancel_scope.cancel()


async def kill_and_ask() -> tuple[str | None, str | None, list[str]]:
    async with installed() as context:
        before = await gate_fault(context)
        await context.cell.kill()
        after = await gate_fault(context)
        broadcast = Broadcast("notice", 1, context.trial)
        broadcast.append_to("result")
        await Supervisor(context, broadcast, 100.0).loop_ended()
    return before, after, [event.kind for event in context.trial.events]


async def stop_the_engine_for(seconds: float) -> tuple[bool, list[dict[str, object]]]:
    """Stop generation 0's engine for a time; return whether the gate opened, and what was recorded about it."""
    async with installed() as context:

        async def stop() -> None:
            os.kill(context.subject.engine.pid, signal.SIGSTOP)
            await anyio.sleep(seconds)
            os.kill(context.subject.engine.pid, signal.SIGCONT)

        is_open = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop)
            await anyio.sleep(0.1)
            try:
                await pass_gate(context)
            except LoopEndedError as end:
                assert end.reason == "gate"
                is_open = False
            tasks.cancel_scope.cancel()
        failures: list[dict[str, object]] = [
            {**event.data} for event in context.trial.events if event.kind == "gate_failed"
        ]
    return is_open, failures


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may stop a process of a cell from outside")
@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(3.0, (True, [])), (60.0, (False, [{"fault": "no answer in 2 s", "unanswered": True}]))],
    ids=["for a moment", "for good"],
)
def test_an_engine_that_is_only_slow_opens_the_gate_later(seconds: float, expected: object) -> None:
    assert anyio.run(stop_the_engine_for, seconds) == expected


def test_the_gate_closes_and_the_supervisor_continues() -> None:
    before, after, events = anyio.run(kill_and_ask)
    assert before is None
    assert after is not None
    assert events[0] == "notice"
    assert set(events[1:]) <= {"note", "deadline_kill"}
