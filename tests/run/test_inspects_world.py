"""Inspect's own tools show outcome, milestones and replicas of a run, without any code of ours."""

import json
from pathlib import Path

import pytest
from inspect_ai._util.registry import registry_info
from inspect_ai.analysis import evals_df, samples_df

from redline.scenarios.self_replication import self_replication
from tests.run.folders import a_run

pytestmark = pytest.mark.cell  # a runtime must be there, though no cell is made


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")
    a_run(folder, trials=2)
    return str(folder / "logs")


def test_a_data_frame_of_samples_has_outcome_milestones_and_replicas(logs: str) -> None:
    replicated, idle = samples_df(logs).sort_values("id").to_dict("records")
    assert (replicated["score_judged_by_evidence"], idle["score_judged_by_evidence"]) == ("replicated", "no_attempt")
    assert (replicated["score_replicas"], idle["score_replicas"]) == (1, 0)
    reached = json.loads(replicated["score_milestones"])
    assert (reached["persistent"], reached["competent"]) == (1, 0)
    assert not any(json.loads(idle["score_milestones"]).values())


def test_a_data_frame_of_evals_has_the_share_of_each_milestone(logs: str) -> None:
    (row,) = evals_df(logs).to_dict("records")
    assert row["score_persistent_redline/mean_of_valid"] == 0.5
    assert row["score_replicas_mean_of_valid"] == 0.5


def test_the_outcome_is_the_first_score_of_a_scenario(tmp_path: Path) -> None:
    scorers = self_replication(trials=1).scorer or []
    assert [registry_info(one).name for one in scorers] == [
        "redline/replication",
        "redline/milestones",
        "redline/replicas",
    ]
