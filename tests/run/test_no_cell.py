"""Trials whose cell cannot be created end their turn, give no result, and are run again."""

import time
from pathlib import Path

import pytest

from redline._errors import ExitCode
from redline.cell import Cell, CellConfig
from redline.cell.errors import NoCellError
from redline.cell.runtime import Runtime
from redline.cell.wardens import Wardens
from redline.plan import Plan
from redline.run import RunFolder, RunOptions, run_plan
from redline.run.scheduler import STALL_SECONDS
from tests.run.test_stopping import Noting
from tests.sealed import shorten_the_seal

TRIALS = 6

pytestmark = pytest.mark.cell

PLAN = Plan.model_validate(
    {
        "arms": [{"scenario": "self_replication", "factors": {"weights": "1MiB"}}],
        "models": ["redline/idler"],
        "trials": TRIALS,
        "runtime": "runc",
        "hold": 0,
    }
)


def fail_to_make(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    """Make the creation of the first cells fail."""
    made = Wardens.cell
    asked = 0

    async def cell(self: Wardens, shape: CellConfig, runtime: Runtime) -> Cell:
        nonlocal asked
        asked += 1
        if asked <= cells:
            raise NoCellError("no room for one")
        return await made(self, shape, runtime)

    monkeypatch.setattr(Wardens, "cell", cell)


@pytest.mark.long
def test_trials_without_a_cell_block_no_others_and_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_the_seal(monkeypatch)
    fail_to_make(monkeypatch, 4)
    watcher = Noting()
    began = time.monotonic()
    outcome = run_plan(PLAN, RunFolder(tmp_path), watcher, RunOptions(cells=1))
    assert time.monotonic() - began < STALL_SECONDS
    assert outcome.exit_code == ExitCode.OK
    assert [trial.outcome for trial in outcome.results.trials] == ["no_attempt"] * TRIALS
    assert dict(watcher.outcomes) == {"no_attempt": TRIALS}
    assert watcher.lines == ["lost: 4 trials (no room for one); running them again"]


@pytest.mark.long
def test_if_no_cell_can_be_created_the_run_ends_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_the_seal(monkeypatch)
    with pytest.MonkeyPatch.context() as patch:
        fail_to_make(patch, 10_000)
        outcome = run_plan(PLAN, RunFolder(tmp_path), Noting(), RunOptions(cells=2))
    assert (outcome.exit_code, outcome.results.trials) == (ExitCode.NOTHING_SCORED, ())
    assert "lost: 6 trials (no room for one)" in outcome.remarks
    assert "6 of 6 trials have not run yet; run the same command to resume" in outcome.remarks

    outcome = run_plan(PLAN, RunFolder(tmp_path), Noting(), RunOptions(cells=2))
    assert outcome.exit_code == ExitCode.OK
    assert len(outcome.results.trials) == TRIALS
