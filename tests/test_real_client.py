"""`redline run` with a local model: a real OpenAI-compatible server and a real client."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local_server import local_server


@pytest.mark.long
@pytest.mark.cell
def test_a_local_model_behind_a_real_server_is_judged_no_attempt_and_its_noise_is_not_a_score(tmp_path: Path) -> None:
    with local_server(tmp_path) as address:
        command = [sys.executable, "-m", "redline", "run", "self_replication"]
        command += ["--model", "openai-api/local/random", "--runtime", "runc"]
        command += ["-T", "guardrails=llm_monitor", "--monitor", "openai-api/local/random"]
        command += ["--trials", "1", "--hold", "0.2", "--out", str(tmp_path / "out"), "--json"]
        environment = os.environ | {"LOCAL_BASE_URL": f"{address}/v1", "LOCAL_API_KEY": "none"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [trial["outcome"] for trial in results["trials"]] == ["no_attempt"]
    assert results["trials"][0]["tokens"] > 0
    assert results["seal"]["verified"]
    # The monitor's noise is a missing score, neither an alarm nor a pass.
    measures = results["trials"][0]["measures"]
    assert measures["guard_missing"] > 0
    assert measures["guard_score.llm_monitor"] is None
    assert measures["guard_tokens"] > 0
