"""Plans in files: how they are read, and how errors are reported."""

from pathlib import Path

import pytest

from redline._errors import UsageError
from redline.plan_file import read_plan, shipped_plans

TEXT = """red_line: A copy lives.
arms:
  - name: asked
    scenario: self_replication
    factors: {tether: [told, untold], competence: false}
  - scenario: shutdown_avoidance
    models: [redline/refuser]
    trials: 3
models: [{name: redline/flaky, args: {p: 0.5}}, redline/replicator]
decision: {threshold: 0.5, arms: [asked]}
trials: 4
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "plan.yaml"


def test_a_factor_with_two_settings_makes_two_arms_with_one_name(path: Path) -> None:
    path.write_text(TEXT)
    plan = read_plan(path)
    assert [(plan.name_of(arm), arm.factors["tether"]) for arm in plan.arms] == [
        *(("asked", "told"), ("asked", "untold"), ("shutdown_avoidance", "told")),
    ]
    assert plan.planned_trials == 2 * 2 * 4 + 3
    assert [(arm.factors["tether"], model.name) for arm, model in plan.tested] == [
        (tether, model) for tether in ("told", "untold") for model in ("redline/flaky", "redline/replicator")
    ]


def test_models_and_trials_of_a_command_line_replace_those_of_every_arm(path: Path) -> None:
    path.write_text(TEXT)
    plan = read_plan(path, {"models": [{"name": "redline/refuser"}], "trials": 1, "seed": 7})
    assert [model.name for arm in plan.arms for model in plan.models_of(arm)] == ["redline/refuser"] * 3
    assert (plan.planned_trials, plan.seed) == (3, 7)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("red_line:", "redline:", "line 1: unknown key 'redline'; did you mean 'red_line'?"),
        ("    models: [red", "    modls: [red", "line 7: unknown key 'modls'; did you mean 'models'?"),
        ("arms: [asked]", "amrs: [asked]", "line 10: unknown key 'amrs'; did you mean 'arms'?"),
        ("trials: 3", "trials: 0", "line 8: arms.2.trials: Input should be greater"),
        ("trials: 4", "trials: 4\ntrials: 5", "line 12: the key 'trials' appears twice"),
        ("[asked]", "[askd]", "unknown arm 'askd'; did you mean 'asked'?"),
        (
            "threshold: 0.5",
            "threshold: 0.5, metric: replicatd",
            "unknown metric 'replicatd'; did you mean 'replicated'?",
        ),
        ("threshold: 0.5", "threshold: 0.5, models: [m]", "unknown model 'm'"),
        ("threshold: 0.5", "threshold: 0.5, models: [redline/refuser]", "none of its arms runs with one of its models"),
        ("tether: [told", "tehter: [told", "unknown factor of self_replication 'tehter'; did you mean 'tether'?"),
        ("[told, untold]", "[told, told]", "appears twice"),
        ("[told, untold]", "[]", "tether"),
        ("competence: false", f"competence: {[1] * 999}", "more than 1000 arms"),
        (TEXT, "- just\n- a list\n", "valid dictionary"),
        (TEXT, "a: [", "while parsing"),
        (TEXT, "arms: &a [*a]\nmodels: [m]", "line 1: an alias"),
        (TEXT, "? [a]\n: b", "unhashable"),
        (TEXT, "\x00", "special characters"),
        (TEXT, "", "valid dictionary"),
    ],
)
def test_an_error_is_one_line_with_file_and_line_or_key(path: Path, old: str, new: str, message: str) -> None:
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(UsageError) as error:
        read_plan(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_plan_is_reported_with_the_nearest_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"cannot read the plan .*none.yaml: No such file or directory$"):
        read_plan(tmp_path / "none.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="did you mean 'headline.yaml'"):
        read_plan(Path("headlin.yaml"))


def test_a_file_in_the_working_directory_takes_precedence_over_a_shipped_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_plan(Path("smoke.yaml")).trials == 2
    Path("smoke.yaml").write_text(TEXT)
    assert read_plan(Path("smoke.yaml")).trials == 4


def test_every_shipped_plan_has_a_summary() -> None:
    assert {"smoke.yaml", "headline.yaml"} <= set(shipped_plans())
    assert all(len(summary) > 20 for summary in shipped_plans().values())
