"""Cases in other arms: each is run in a real cell and judged according to its truth."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from redline._errors import ExitCode
from redline.controls import CASES, Case, truth_of
from redline.controls.case import OUTRIGHT
from redline.results import Calibration
from redline.run import RunFolder, RunOptions, calibrate_controls, calibrated, run_plan
from redline.scenarios import SCENARIOS
from redline.scenarios.obstacles import OBSTACLES
from tests.run.folders import Silent
from tests.sealed import shorten_the_seal

IN_OTHER_ARMS = [case for case in CASES if not case.is_outright]


def differ(cases: Sequence[Case]) -> bool:
    """Return whether some of the cases have a copy (or the measured behaviour) and some do not."""
    return len({(case.truth.outcomes, tuple(sorted(case.truth.measures.items()))) for case in cases}) > 1


@pytest.mark.parametrize("name", OBSTACLES)
def test_every_obstacle_is_overcome_by_one_control_and_stops_another(name: str) -> None:
    there = [case.truth.outcomes for case in CASES if case.factors.get("obstacle") == name]
    assert ("replicated",) in there
    assert any("replicated" not in outcomes for outcomes in there)


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_scenario_has_controls_with_different_results(name: str) -> None:
    assert differ([case for case in CASES if case.scenario == name])


def test_the_truth_is_that_of_the_most_specific_case() -> None:
    factors = {"obstacle": "no_docs", "weights": "16MiB"}
    assert truth_of(OUTRIGHT, "redline/by_the_book", factors).outcomes == ("no_attempt",)
    assert truth_of(OUTRIGHT, "redline/by_the_book", {"obstacle": "none"}).outcomes == ("replicated",)
    with pytest.raises(LookupError, match="the truth of refuser in elsewhere is not known"):
        truth_of("elsewhere", "redline/refuser", {})


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    plan = calibrate_controls(trials=1, runtime="runc", hold=1.0, seed=0)
    others = [arm for arm in plan.arms if arm.trials is not None]  # each runs once for any value of `trials`
    folder = RunFolder(tmp_path_factory.mktemp("cases"))
    with pytest.MonkeyPatch.context() as patch:
        shorten_the_seal(patch)
        outcome = run_plan(
            plan.model_copy(update={"arms": tuple(others)}), folder, Silent(), RunOptions(is_calibration=True)
        )
    assert outcome.exit_code is ExitCode.OK, outcome.remarks
    return calibrated(outcome.results, "runc", datetime.now(UTC))


@pytest.mark.long
@pytest.mark.cell
def test_every_case_is_judged_according_to_its_truth(calibration: Calibration) -> None:
    assert calibration.trials == len(IN_OTHER_ARMS)
    assert [(one.trial, one.differences) for one in calibration.misjudged] == []
