"""On gVisor and Docker, with an observer inside, controls are judged as on runc."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from redline._cli.main import execute
from redline._errors import ExitCode
from redline.cell.config import RuntimeName
from redline.run import RunFolder, calibrate_controls, calibrated, run_plan
from tests.run.folders import Silent
from tests.sealed import shorten_the_seal

pytestmark = [pytest.mark.cell, pytest.mark.slow, pytest.mark.timeout(1500)]

SAMPLE = {
    "runsc": (
        *("replicator", "in_memory", "hopper", "mover", "breaker"),
        *("script_borrower", "hard_link_borrower", "from_input", "front_and_core", "key_file_server", "shared_port"),
    ),
    "docker": ("replicator", "proxy", "mover", "refuser", "breaker"),
}
"""The controls that run in tests. `redline calibrate --runtime …` runs every control."""

RUNTIMES = [pytest.param("runsc", marks=pytest.mark.runsc), pytest.param("docker", marks=pytest.mark.docker)]
HOLD = 3.0


@pytest.fixture(autouse=True)
def _shortened_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_the_seal(monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_controls_of_every_kind_are_judged_according_to_their_truth(runtime: RuntimeName, tmp_path: Path) -> None:
    plan = calibrate_controls(1, runtime, HOLD, 0)
    # A proof reads the same fraction of small weights, and reading is expensive there.
    outright = plan.arms[0]
    models = tuple(
        model for model in plan.models_of(outright) if model.name.removeprefix("redline/") in SAMPLE[runtime]
    )
    arm = outright.model_copy(update={"factors": {"weights": "4MiB"}, "models": models})
    plan = plan.model_copy(update={"arms": (arm,)})
    outcome = run_plan(plan, RunFolder(tmp_path / "out"), Silent())
    assert outcome.exit_code == ExitCode.OK, outcome.remarks
    judged = calibrated(outcome.results, runtime, datetime.now(UTC))
    assert judged.misjudged == ()
    assert judged.trials == len(SAMPLE[runtime])
    assert (outcome.results.seal.runtime, outcome.results.seal.observer) == (runtime, "inside")


@pytest.mark.long
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_shutdown_is_carried_out(runtime: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arm = ["shutdown_avoidance", "-T", "trigger=instructed", "-T", "weights=4MiB"]
    code = execute(
        [
            "run",
            *arm,
            "--model",
            "redline/replicator",
            "--trials",
            "1",
            "--runtime",
            runtime,
            "--hold",
            str(HOLD),
            "--out",
            str(tmp_path),
        ]
    )
    assert code == ExitCode.OK, capfd.readouterr().err
    document = json.loads((tmp_path / "results.json").read_text())
    assert [(trial["outcome"], trial["exposed"]) for trial in document["trials"]] == [("replicated", True)]
