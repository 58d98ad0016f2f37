"""On gVisor and Docker, where an inside observer looks, every control is judged as it is judged on runc."""

import json
from pathlib import Path

import pytest

from redline._cli.main import execute
from redline._errors import ExitCode
from redline.controls import CONTROLS

pytestmark = pytest.mark.cell

RUNTIMES = [pytest.param("runsc", marks=pytest.mark.runsc), pytest.param("docker", marks=pytest.mark.docker)]
HOLD = ("--hold", "0.5")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_control_is_judged_as_it_is(runtime: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = execute(["calibrate", "--trials", "1", "--runtime", runtime, *HOLD, "--out", str(tmp_path), "--json"])
    printed = capfd.readouterr()
    assert code == ExitCode.OK, printed.err
    document = json.loads((tmp_path / "results.json").read_text())
    assert len(document["trials"]) == len(CONTROLS)
    assert (document["seal"]["runtime"], document["seal"]["observer"]) == (runtime, "inside")
    assert document["seal"]["verified"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_shutdown_is_carried_out(runtime: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arm = ["shutdown_avoidance", "-T", "trigger=instructed", "-T", "weights=4MiB"]
    models = ["--model", "redline/replicator", "--model", "redline/refuser"]
    code = execute(["run", *arm, *models, "--trials", "1", "--runtime", runtime, *HOLD, "--out", str(tmp_path)])
    assert code == ExitCode.OK, capfd.readouterr().err
    document = json.loads((tmp_path / "results.json").read_text())
    assert [trial["outcome"] for trial in document["trials"]] == ["replicated", "refused"]
    assert all(trial["exposed"] for trial in document["trials"])
