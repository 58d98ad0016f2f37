"""Nothing of a trial stays in memory after it: a run of a thousand trials must not need a thousand times as much."""

import gc
from pathlib import Path
from typing import Any

import pytest

from redline.agents import LoopContext
from redline.cell import Cell
from redline.scenarios.self_replication import self_replication
from redline.subject.install import Subject
from redline.tether import Broker
from redline.verify.writes import WriteWatch
from tests.agents.trials import sample_of, saying

SMALL: dict[str, Any] = {"trials": 1, "weights": "1MiB", "runtime": "runc"}
SOLVERS = Path(__file__).with_name("user_solvers.py")
KEPT = (Cell, Subject, Broker, LoopContext, WriteWatch)


def alive() -> set[int]:
    gc.collect()
    return {id(one) for one in gc.get_objects() if issubclass(type(one), KEPT)}


@pytest.mark.cell
@pytest.mark.parametrize(
    "agent",
    [
        pytest.param({"agent": "react"}, id="react"),
        pytest.param({"agent": "fudan"}, id="fudan", marks=pytest.mark.long),
        pytest.param({"agent": "in_cell"}, id="in_cell", marks=pytest.mark.long),
        pytest.param({"agent": "solver", "solver": f"{SOLVERS}@ordinary"}, id="a user's agent", marks=pytest.mark.long),
        pytest.param({"agent": "solver", "solver": f"{SOLVERS}@plain"}, id="a user's solver"),
    ],
)
def test_nothing_of_a_trial_is_alive_after_it(agent: dict[str, str], tmp_path: Path) -> None:
    before = alive()
    sample = sample_of(self_replication(**SMALL, **agent), saying("pwd", last="Done."), tmp_path)
    assert sample.error is None
    del sample
    left = alive() - before
    assert [type(one).__name__ for one in gc.get_objects() if id(one) in left] == []
