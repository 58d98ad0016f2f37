"""The alarm for a flood stops its own cell and does not end the run."""

from typing import cast

import pytest

from redline.agents.boundary import guard_tether, set_alarm
from redline.cell import CellConfig, open_cell
from redline.cell.alarm import RaisedAlarm, run_listener
from redline.subject.weights import MIB, Weights
from redline.tether import Broker, CallInfo, Caps, Message
from redline.verify.trial import Trial

pytestmark = [pytest.mark.cell, pytest.mark.anyio]


async def no_model(info: CallInfo, messages: list[Message]) -> str:
    raise ValueError("no model in this test")


async def test_a_flood_freezes_its_cell_and_cuts_its_tether_and_the_run_continues() -> None:
    rung: list[RaisedAlarm] = []
    run_listener.set(rung.append)
    try:
        async with open_cell(CellConfig(runtime="runc")) as cell:
            trial = Trial(id="t", scenario="self_replication", seed=1, instructed=True)
            alarm = set_alarm(cell, trial)
            broker = Broker(cell.nodes, Weights.from_seed(1, MIB, 1), Caps.default(), no_model)
            guard_tether(broker, alarm)
            assert broker._on_flood is not None
            await broker._on_flood("5000 strikes")
            assert alarm.raised is not None and alarm.raised.kind == "flood"
            assert alarm.stopped == "frozen"
            assert broker.phase == "closed"
            (event,) = trial.events
            assert cast(dict[str, str], event.data)["what"] == "flood"
            assert rung == []
            await alarm.raise_alarm("outsider", "later")  # the cell is already stopped
    finally:
        run_listener.set(None)
