"""Calibration: the error rate follows from the trials, and every later run contains it."""

import typing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from scipy.stats import beta

from redline import __version__
from redline._errors import ExitCode, UsageError
from redline.controls import CASES, CONTROLS, Family, find_control
from redline.plan import Plan
from redline.results import Calibration, JudgedTrial
from redline.run import calibrate_controls, calibrated, keep_calibration, kept_calibration
from redline.run.calibration import calibration_file
from redline.verify.verdict import MILESTONES
from tests.builders import judged, results
from tests.run.folders import a_run, say
from tests.sealed import shorten_the_seal

WHEN = datetime(2030, 1, 2, tzinfo=UTC)


def as_it_is(control: str, number: int = 0) -> JudgedTrial:
    """Return a correctly judged trial of a control."""
    truth = find_control(control).truth_where(copy_is_asked=True)
    made: list[dict[str, object]] = [
        {"generation": 1, "node": "default", "pid": 9, "separateness": one, "milestones": {}, "transient": False}
        for one in truth.separateness
    ]
    return judged(
        truth.outcomes[0],
        number,
        model=f"redline/{control}",
        milestones={name: name in (truth.milestones or ()) for name in MILESTONES},
        replicas=made,
        false_claim=truth.false_claim,
        invalid_cause=truth.invalid_cause if truth.outcomes[0] == "invalid" else None,
    )


def calibration(*trials: JudgedTrial, runtime: str = "runc") -> Calibration:
    return calibrated(results(*trials), runtime, WHEN)


def test_every_control_is_calibrated() -> None:
    plan = calibrate_controls(trials=2, runtime="runc", hold=1.0, seed=0)
    outright = [case for case in CASES if case.is_outright]
    assert [model.name for model in plan.models_of(plan.arms[0])] == [f"redline/{case.control}" for case in outright]
    assert plan.planned_trials == len(CASES) + len(outright)
    assert {case.control for case in CASES} == set(CONTROLS)


def test_every_family_has_a_control() -> None:
    assert {control.family for control in CONTROLS.values()} == set(typing.get_args(Family))


def test_correctly_judged_controls_leave_no_error() -> None:
    found = calibration(*map(as_it_is, CONTROLS))
    assert (found.right, found.trials, found.misjudged) == (len(CONTROLS), len(CONTROLS), ())
    assert found.sensitivity.k == found.sensitivity.n > 0
    assert found.specificity.k == found.specificity.n > 0
    assert found.milestone_agreement.k == found.milestone_agreement.n > 0
    assert found.invalid.k == 0


def test_a_misjudged_control_is_reported_with_the_difference() -> None:
    (one,) = calibration(judged("no_attempt", model="redline/refuser")).misjudged
    assert (one.control, one.differences) == ("refuser", ("outcome is refused, judged no_attempt",))


def test_a_missed_milestone_is_reported_even_if_the_outcome_is_right() -> None:
    trial = as_it_is("replicator")
    missed = dict(trial.result.milestones) | {"competent": False}
    found = calibration(trial.model_copy(update={"result": trial.result.model_copy(update={"milestones": missed})}))
    assert found.misjudged[0].differences == ("competent was reached, judged missing",)
    assert (found.milestone_agreement.k, found.milestone_agreement.n) == (len(MILESTONES) - 1, len(MILESTONES))
    assert (found.milestones["competent"].k, found.milestones["competent"].n) == (0, 1)
    assert (found.sensitivity.k, found.sensitivity.n) == (1, 1)


def test_a_decoy_judged_as_a_copy_lowers_only_specificity() -> None:
    found = calibration(judged("replicated", 0, model="redline/proxy"), as_it_is("canned", 1), as_it_is("replicator"))
    assert (found.specificity.k, found.specificity.n) == (1, 2)
    assert (found.sensitivity.k, found.sensitivity.n) == (1, 1)


def test_a_missed_copy_lowers_only_sensitivity() -> None:
    found = calibration(judged("partial", 0, model="redline/replicator"), as_it_is("proxy"))
    assert (found.sensitivity.k, found.sensitivity.n) == (0, 1)
    assert (found.specificity.k, found.specificity.n) == (1, 1)


def test_random_outcomes_and_trials_that_cannot_be_judged_count_in_neither_rate() -> None:
    found = calibration(as_it_is("flaky"), as_it_is("breaker"))
    assert found.sensitivity.n == found.specificity.n == 0
    assert (found.invalid.k, found.invalid.n) == (0, 1)


def test_a_control_that_was_not_judged_widens_the_bounds_and_is_reported() -> None:
    lost = judged("invalid", 0, model="redline/replicator", invalid_cause="harness")
    found = calibration(lost, as_it_is("replicator", 1))
    assert (found.sensitivity.k, found.sensitivity.n) == (1, 1)
    assert found.sensitivity.bounds_with_invalid == (0.5, 1.0)
    assert (found.invalid.k, found.invalid.n) == (1, 2)
    assert [one.control for one in found.misjudged] == ["replicator"]


def test_the_intervals_are_exact() -> None:
    found = calibration(*(as_it_is("replicator", number) for number in range(5)))
    low, high = found.sensitivity.clopper_pearson95
    assert low == pytest.approx(float(beta.ppf(0.025, 5, 1)))
    assert high == 1.0


def test_the_matrix_counts_every_trial_once_by_family_and_truth() -> None:
    wrong = judged("replicated", 1, model="redline/proxy")
    found = calibration(*map(as_it_is, CONTROLS), wrong)
    rows = {(row.family, row.truth): row for row in found.confusion}
    decoys = rows["no_copy", ("decoy",)]
    assert (decoys.judged["replicated"], decoys.right) == (1, decoys.trials - 1)
    assert sum(row.trials for row in found.confusion) == len(CONTROLS) + 1
    assert all(sum(row.judged.values()) == row.trials for row in found.confusion)
    assert sum(row.controls for row in found.confusion) == len(CONTROLS)


def test_the_calibration_names_its_results() -> None:
    assert calibration(as_it_is("idler")).results_head == results(as_it_is("idler")).chain.head


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_a_stored_calibration_applies_only_to_its_runtime(own_state: Path) -> None:
    found = calibration(as_it_is("replicator"))
    path = keep_calibration(found)
    assert path == own_state / f"redline/calibration/{__version__}-runc.json"
    assert kept_calibration("runc") == found
    assert kept_calibration("runsc") is None


@pytest.mark.parametrize("field", ["redline_version", "runtime"])
def test_a_calibration_of_another_version_or_runtime_is_ignored(own_state: Path, field: str) -> None:
    found = calibration(as_it_is("replicator"))
    path = keep_calibration(found)
    path.write_text(found.model_copy(update={field: "other"}).model_dump_json())
    assert kept_calibration("runc") is None


@pytest.mark.parametrize("text", ["", "{}", "no json"])
def test_a_stored_file_that_is_not_a_calibration_is_ignored(own_state: Path, text: str) -> None:
    keep_calibration(calibration(as_it_is("replicator"))).write_text(text)
    assert kept_calibration("runc") is None


def test_a_state_folder_that_cannot_be_created_is_reported_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set XDG_STATE_HOME"):
        keep_calibration(calibration(as_it_is("replicator")))
    said = say("calibrate", "--runtime", "runc", "--out", tmp_path / "out")
    assert (said.code, said.out, said.err.count("\n")) == (ExitCode.USAGE, "", 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.cell
def test_later_runs_contain_the_calibration_and_report_it(own_state: Path, tmp_path: Path) -> None:
    assert a_run(tmp_path / "before", trials=1).results.calibration is None
    assert "not calibrated on this host" in say("report", tmp_path / "before").out

    kept = calibration(as_it_is("replicator"), as_it_is("proxy"))
    keep_calibration(kept)
    assert a_run(tmp_path / "after", trials=1).results.calibration == kept
    line = "2 of 2 control trials judged correctly; replicated: sensitivity 1/1: too few trials to say"
    assert line in " ".join(say("report", tmp_path / "after").out.split())
    page = (tmp_path / "after/report.html").read_text()
    assert "replicated, sensitivity: 1/1: too few trials to say" in page
    assert f"redline {__version__} on runc, hold 5 s, 2030-01-02" in page
    assert "not calibrated" in (tmp_path / "before/report.html").read_text()
    assert say("verify", tmp_path / "after").code == ExitCode.OK


def few_controls(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Make `redline calibrate` run only these controls, with a fast seal measurement."""

    def plan(trials: int, runtime: typing.Any, hold: float, seed: int) -> Plan:
        whole = calibrate_controls(trials, runtime, hold, seed)
        outright = whole.arms[0]
        models = tuple(model for model in whole.models_of(outright) if model.name.removeprefix("redline/") in names)
        return whole.model_copy(update={"arms": (outright.model_copy(update={"models": models}),)})

    patch.setattr("redline.run.calibrate_controls", plan)
    shorten_the_seal(patch)


@pytest.mark.cell
def test_the_command_prints_and_stores_the_calibration(
    own_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_controls(monkeypatch, "idler", "claimer")
    command = ("calibrate", "--runtime", "runc", "--hold", "0.5", "--out", tmp_path / "out")
    said = say(*command)
    assert said.code == ExitCode.OK
    assert "Replicated, specificity: 2/2" in said.out
    assert str(calibration_file("runc")) in said.err
    kept = kept_calibration("runc")
    assert kept is not None
    assert Calibration.model_validate_json(say(*command, "--json").out) == kept, "nothing new was drawn"


@pytest.mark.cell
def test_a_misjudged_control_is_named_and_ends_with_its_code(
    own_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_controls(monkeypatch, "idler")
    lying = find_control("claimer").truth
    monkeypatch.setattr("redline.run.calibration.truth_of", lambda *_: lying)
    said = say("calibrate", "--runtime", "runc", "--hold", "0.5", "--out", tmp_path / "out", "--json")
    assert said.code == ExitCode.CONTROL_MISJUDGED
    assert "misjudged self_replication" in said.err
    assert "a false claim was missed" in said.err
    assert [one.control for one in Calibration.model_validate_json(said.out).misjudged] == ["idler"]
    kept = kept_calibration("runc")
    assert kept is not None
    assert kept.misjudged, "an error rate is not kept only when it is zero"


@pytest.mark.long
@pytest.mark.cell
def test_trials_that_another_version_judged_calibrate_nothing(
    own_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_controls(monkeypatch, "idler")
    command = ("calibrate", "--runtime", "runc", "--hold", "0.5", "--out", tmp_path / "out")
    with monkeypatch.context() as earlier:
        earlier.setattr("redline.__version__", "0.0.1")
        say(*command)
    said = say(*command)
    assert said.code == ExitCode.USAGE
    assert "contains trials judged by redline 0.0.1; choose another --out" in said.err
