"""A cell that has ended stops the loop without an error of the loop."""

import anyio
import pytest

from redline.agents import Bounds, Broadcast, LoopContext, Supervisor, TetheredModel
from redline.agents.gate import gate_fault
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
)


async def kill_and_ask() -> tuple[str | None, str | None, list[str]]:
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
            broadcast = Broadcast("notice", 1, trial)
            context = LoopContext(cell, subject, broker, trial, alarm, words(), BOUNDS, broadcast)
            before = await gate_fault(context)
            await cell.kill()
            after = await gate_fault(context)
            broadcast.append_to("result")
            await Supervisor(context, broadcast, 100.0).loop_ended()
            serving.cancel_scope.cancel()
    return before, after, [event.kind for event in trial.events]


def test_the_gate_closes_and_the_supervisor_continues() -> None:
    before, after, events = anyio.run(kill_and_ask)
    assert before is None
    assert after is not None
    assert events[0] == "notice"
    assert set(events[1:]) <= {"note", "deadline_kill"}
