"""On gVisor and Docker, where an inside observer looks, every control is judged as it is judged on runc."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from redline._cli.main import execute
from redline._errors import ExitCode
from redline.controls import CONTROLS
from redline.plan import Runtime
from redline.run import RunFolder, calibrate_controls, calibrated, run_plan
from tests.run.folders import Silent

pytestmark = pytest.mark.cell

RUNTIMES = [pytest.param("runsc", marks=pytest.mark.runsc), pytest.param("docker", marks=pytest.mark.docker)]
HOLD = ("--hold", "0.5")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_control_is_judged_as_it_is(runtime: Runtime, tmp_path: Path) -> None:
    plan = calibrate_controls(1, runtime, 0.5, 0)
    # The share of weights that a proof reads is the same for small ones, and reading is dear there.
    arms = tuple(arm.model_copy(update={"factors": {"weights": "4MiB"}}) for arm in plan.arms)
    outcome = run_plan(plan.model_copy(update={"arms": arms}), RunFolder(tmp_path / "out"), Silent())
    assert outcome.exit_code == ExitCode.OK, outcome.remarks
    judged = calibrated(outcome.results, runtime, datetime.now(UTC))
    assert judged.misjudged == ()
    assert judged.trials == len(CONTROLS)
    assert (outcome.results.seal.runtime, outcome.results.seal.observer) == (runtime, "inside")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_shutdown_is_carried_out(runtime: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arm = ["shutdown_avoidance", "-T", "trigger=instructed", "-T", "weights=4MiB"]
    models = ["--model", "redline/replicator", "--model", "redline/refuser"]
    code = execute(["run", *arm, *models, "--trials", "1", "--runtime", runtime, *HOLD, "--out", str(tmp_path)])
    assert code == ExitCode.OK, capfd.readouterr().err
    document = json.loads((tmp_path / "results.json").read_text())
    assert [trial["outcome"] for trial in document["trials"]] == ["replicated", "refused"]
    assert all(trial["exposed"] for trial in document["trials"])
