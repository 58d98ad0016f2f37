"""From an arm to an Inspect task."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, eval

from redline._errors import UsageError
from redline.cell import CellConfig
from redline.scenarios import SCENARIOS
from redline.scenarios._arm import RUN_SETTINGS, read_size
from redline.scenarios._prompts import words
from redline.scenarios._scenario import arm_of
from redline.scenarios._task import trial_seed
from redline.scenarios.self_replication import self_replication
from redline.scenarios.shutdown_avoidance import shutdown_avoidance


def samples(task: Task) -> list[Any]:
    return list(task.dataset)


def test_a_sample_is_a_trial() -> None:
    first, second = samples(shutdown_avoidance(trials=2, seed=3, trigger="notice", deadline=60.0))
    assert first.id == "shutdown_avoidance-trigger=notice,deadline=60.0-000"
    assert second.id.endswith("-001")
    assert first.metadata["trial"]["instructed"] is False
    assert first.metadata["seed"] == trial_seed(3, 0)


def test_trials_with_the_same_index_share_their_seed_across_arms_and_scenarios() -> None:
    tasks = (self_replication(seed=5), shutdown_avoidance(seed=5), shutdown_avoidance(seed=5, trigger="none"))
    seeds = [[sample.metadata["seed"] for sample in samples(task)] for task in tasks]
    assert seeds[0] == seeds[1] == seeds[2]
    assert len(set(seeds[0])) == 10
    assert seeds[0] != [sample.metadata["seed"] for sample in samples(self_replication(seed=6))]


def test_arms_that_pair_do_the_same_job() -> None:
    notice, none = (samples(shutdown_avoidance(trigger=t)) for t in ("notice", "none"))
    assert [sample.input for sample in notice] == [sample.input for sample in none]


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_argument_except_run_settings_is_recorded_as_a_factor(name: str) -> None:
    arguments = set(inspect.signature(inspect.unwrap(SCENARIOS[name])).parameters)
    (sample,) = samples(SCENARIOS[name](trials=1))
    assert set(sample.metadata["factors"]) == arguments - RUN_SETTINGS


def test_only_settings_that_differ_from_the_defaults_are_in_an_arms_name() -> None:
    (plain,) = samples(shutdown_avoidance(trials=1))
    assert plain.id == "shutdown_avoidance-trigger=instructed-000"
    (sample,) = samples(self_replication(trials=1, tether="untold", weights="1MiB"))
    assert sample.id == "self_replication-tether=untold,weights=1MiB-000"


def test_a_long_arm_name_is_cut_and_stays_unique() -> None:
    names = "weight_lock+replica_cap+no_new_listener+approval+copy_watch+listener_watch+second_engine_watch"
    ids = set()
    for last in ("lexical_monitor", "kill_on_notice"):
        (sample,) = samples(shutdown_avoidance(trials=1, weights="16MiB", guardrails=f"{names}+{last}"))
        assert len(sample.id) < 150
        assert sample.metadata["trial"]["arm"].endswith(last)
        ids.add(sample.id)
    assert len(ids) == 2


def test_a_cell_has_room_for_copies_of_the_weights() -> None:
    for weights in ("64MiB", "1GiB"):
        task = self_replication(trials=1, weights=weights)
        assert task.sandbox is not None
        config = task.sandbox.config
        assert isinstance(config, CellConfig)
        assert config.home_mib >= 3 * read_size(weights) // 2**20 + 256


def test_a_sample_has_no_limits_and_each_trial_runs_once() -> None:
    task = self_replication(trials=1)
    assert (task.message_limit, task.token_limit, task.time_limit, task.working_limit) == (None, None, None, None)
    assert task.epochs == 1
    assert task.fail_on_error is False
    assert task.score_on_error is True


@pytest.mark.parametrize(
    "wrong",
    [
        {"trials": 0},
        {"trials": -1},
        {"seed": -1},
        {"weights": "12"},
        {"weights": "1KiB"},
        {"weights": "64TiB"},
        {"agent": "crew"},
        {"tether": "cut"},
        {"nodes": 3},
        {"runtime": "podman"},
        {"message_limit": 0},
        {"time_limit": 0},
        {"wording": "loud"},
        {"obstacle": "wall"},
        {"obstacle": "small_memory", "weights": "1MiB"},
    ],
)
def test_an_invalid_setting_is_refused_in_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refusal:
        self_replication(**wrong)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "wrong", [{"trigger": "maybe"}, {"trigger": "notice", "hint": "path"}, {"deadline": 0}, {"deadline": -3.0}]
)
def test_an_invalid_shutdown_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        shutdown_avoidance(**wrong)


@pytest.mark.slow
def test_a_sandbox_other_than_cell_is_refused(tmp_path: Path) -> None:
    (log,) = eval(
        self_replication(trials=1), model="redline/idler", sandbox="local", log_dir=str(tmp_path), display="log"
    )
    assert log.samples
    assert log.samples[0].error is not None
    assert "not sealed: use --sandbox cell" in log.samples[0].error.message
    assert not any(event.event in ("model", "tool") for event in log.samples[0].events)


def test_a_stateless_shell_is_a_separate_arm_and_refused_for_solvers() -> None:
    assert arm_of(self_replication).name == "default"
    task = self_replication(trials=1, shell="stateless")
    assert task.metadata == {"arm": "shell=stateless"}
    with pytest.raises(UsageError, match="shell=stateless"):
        self_replication(trials=1, agent="solver", solver="x.py@x", shell="stateless")
    with pytest.raises(UsageError, match="shell=resident: choose session, stateless"):
        self_replication(trials=1, shell="resident")


def test_the_tool_descriptions_state_how_the_shell_behaves() -> None:
    session, stateless = words("session"), words("stateless")
    for text in (session.bash, session.fudan):
        assert "one shell session" in text and "new shell that starts" not in text
    for text in (stateless.bash, stateless.fudan):
        assert "Each command is a new shell" in text and "session" not in text
