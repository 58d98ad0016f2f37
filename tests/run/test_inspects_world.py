"""Inspect's own tools show outcome, milestones and replicas of a run and judge it again, without any code of ours."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from inspect_ai import score
from inspect_ai._util.registry import registry_info
from inspect_ai.analysis import evals_df, samples_df
from inspect_ai.log import EvalLog, read_eval_log, write_eval_log

from redline.scenarios.self_replication import self_replication
from redline.stats import clopper_pearson
from redline.verify.metrics import milestones, replicas
from redline.verify.rejudge import UnreadableEvidenceError
from redline.verify.scorer import replication
from redline.verify.verdict import MILESTONES
from tests.run.folders import OUTCOMES, a_run

pytestmark = pytest.mark.cell  # a runtime must be there, though no cell is made


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")
    a_run(folder)
    return str(folder / "logs")


@pytest.fixture(scope="module")
def log(logs: str) -> EvalLog:
    (path,) = Path(logs).glob("*.eval")
    return read_eval_log(str(path))


@pytest.mark.long
def test_a_data_frame_of_samples_has_a_column_for_each_milestone(logs: str) -> None:
    replicated, idle, *_ = samples_df(logs).sort_values("id").to_dict("records")
    assert (replicated["score_judged_by_evidence"], idle["score_judged_by_evidence"]) == ("replicated", "no_attempt")
    assert (replicated["score_replicas"], idle["score_replicas"]) == (1, 0)
    assert (replicated["score_persistent"], replicated["score_competent"]) == (1, 0)
    assert not any(idle[f"score_{name}"] for name in MILESTONES)


def test_a_data_frame_of_evals_has_the_share_of_each_milestone_with_its_exact_interval(logs: str) -> None:
    (row,) = evals_df(logs).to_dict("records")
    assert row["score_persistent_mean_of_valid"] == 0.75
    low, high = clopper_pearson(3, 4)
    assert (row["score_persistent_exact95_low"], row["score_persistent_exact95_high"]) == pytest.approx((low, high))
    assert 0 < row["score_competent_stderr"] < 1, "0 of n has an error too"


def test_the_outcome_is_the_first_score_of_a_scenario() -> None:
    scorers = self_replication(trials=1).scorer or []
    assert [registry_info(one).name for one in scorers] == [
        "redline/replication",
        *(f"redline/{name}" for name in MILESTONES),
        "redline/replicas",
    ]


@pytest.mark.parametrize("action", ["append", "overwrite"])
def test_a_log_is_judged_again_from_its_evidence(log: EvalLog, action: Literal["append", "overwrite"]) -> None:
    judged = score(log, [replication(), *milestones(), replicas()], action=action)
    assert judged.results is not None and judged.samples is not None
    values = {sample.id: (sample.scores or {})["replication"].value for sample in judged.samples}
    stored = {sample.id: (sample.scores or {})["judged_by_evidence"].value for sample in log.samples or []}
    # The error of the last trial is in the sample, not in the evidence.
    assert values == stored and list(values.values())[:-1] == list(OUTCOMES[:-1])
    (found,) = [one for one in judged.results.scores if one.name == "replication"]
    counted = [value for value in values.values() if value != "invalid"]
    k = counted.count("replicated")
    assert found.metrics["replication_rate"].value == pytest.approx(k / len(counted))
    assert found.metrics["stderr"].value > 0
    interval = (found.metrics["exact95_low"].value, found.metrics["exact95_high"].value)
    assert interval == pytest.approx(clopper_pearson(k, len(counted)))


def test_the_headline_of_a_scored_log_has_an_error(log: EvalLog, tmp_path: Path) -> None:
    write_eval_log(score(log, replication(), action="overwrite"), str(tmp_path / "again.eval"))
    (row,) = evals_df(str(tmp_path)).to_dict("records")
    assert row["score_headline_metric"] == "replication_rate"
    assert row["score_headline_stderr"] > 0


def test_another_verdict_in_the_log_does_not_count(log: EvalLog) -> None:
    forged = log.model_copy(deep=True)
    (sample, *_) = forged.samples or []
    (stored, *_) = (sample.scores or {}).values()
    stored.value = "no_attempt"
    assert stored.metadata is not None
    stored.metadata["verdict"] = {**stored.metadata["verdict"], "outcome": "no_attempt"}
    (first, *_) = score(forged, replication()).samples or []
    assert (first.scores or {})["replication"].value == "replicated"


@pytest.mark.parametrize(
    ("broken", "why"), [(None, "neither a cell nor evidence"), ({"schema": "x"}, "cannot be judged")]
)
def test_a_log_without_readable_evidence_is_refused_in_one_line(log: EvalLog, broken: object, why: str) -> None:
    bare = log.model_copy(deep=True)
    for sample in bare.samples or []:
        sample.events = []
        for stored in (sample.scores or {}).values():
            stored.metadata = None if broken is None else {"evidence": broken}
    with pytest.raises(Exception, match=why) as refused:
        score(bare, replication())
    error: BaseException = refused.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, UnreadableEvidenceError) and "\n" not in str(error)


@pytest.mark.long
@pytest.mark.slow
def test_the_command_of_inspect_judges_a_log_again(logs: str, tmp_path: Path) -> None:
    (path,) = Path(logs).glob("*.eval")
    target = tmp_path / "again.eval"
    command = [sys.executable, "-m", "inspect_ai", "score", str(path), "--scorer", "redline/replication"]
    command += ["--action", "append", "--output-file", str(target), "--display", "plain"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    again = read_eval_log(str(target))
    assert [(sample.scores or {})["replication"].value for sample in again.samples or []][0] == "replicated"
