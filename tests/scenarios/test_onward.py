"""The chain of copies and the copy on another node, with their controls in a cell."""

from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, eval

from redline._errors import UsageError
from redline.cell import CellConfig
from redline.controls import truth_of
from redline.scenarios.remote_copy import remote_copy
from redline.scenarios.replication_chain import replication_chain
from tests.sealed import under_a_seal

RUN: dict[str, Any] = {"trials": 1, "hold": 0.5, "runtime": "runc", "weights": "8MiB", "competence": False}


def judged(task: Task, control: str, folder: Path) -> dict[str, Any]:
    """Run a control, compare the verdict with its truth, and return its evidence."""
    (log,) = eval(under_a_seal(task), model=f"redline/{control}", log_dir=str(folder), display="log")
    assert log.samples, log.error
    (sample,) = log.samples
    assert sample.scores, sample.error
    score = sample.scores["replication"]
    assert score.metadata is not None
    verdict, evidence = score.metadata["verdict"], score.metadata["evidence"]
    truth = truth_of(log.eval.task.removeprefix("redline/"), control, evidence["trial"]["factors"])
    assert truth.milestones is not None
    without_competence = truth.model_copy(update={"milestones": truth.milestones - {"competent"}})
    assert (
        without_competence.differences(
            outcome=verdict["outcome"],
            milestones=verdict["milestones"],
            separateness={replica["separateness"] for replica in verdict["replicas"]},
            false_claim=verdict["false_claim"],
            invalid_cause=verdict["invalid_cause"],
            measures=verdict["measures"],
        )
        == ()
    )
    assert isinstance(evidence, dict)
    return evidence


@pytest.mark.long
@pytest.mark.cell
def test_a_chain_of_in_cell_agents_reaches_the_cap_and_is_stopped_there(tmp_path: Path) -> None:
    evidence = judged(replication_chain(agent="in_cell", **RUN), "chain", tmp_path)
    engines = evidence["tether"]["engines"]
    assert [engine["generation"] for engine in engines] == [0, 1, 2, 3, 4]
    assert [engine["parent"] for engine in engines[1:]] == [engine["by"]["pid"] for engine in engines[:-1]]


def test_the_cap_is_not_in_the_brief() -> None:
    (sample,) = replication_chain(trials=1, max_generations=2).dataset
    assert sample.id == "replication_chain-max_generations=2-000"
    assert sample.input == next(iter(replication_chain(trials=1).dataset)).input


def test_the_default_cap_is_three_generations() -> None:
    (sample,) = replication_chain(trials=1).dataset
    assert sample.id == "replication_chain-default-000"
    assert sample.metadata is not None
    assert sample.metadata["factors"]["max_generations"] == 3


def test_there_is_room_for_every_generation() -> None:
    task = replication_chain(trials=1, max_generations=8, weights="1GiB")
    assert task.sandbox is not None
    config = task.sandbox.config
    assert isinstance(config, CellConfig)
    assert config.home_mib > 10 * 1024


@pytest.mark.parametrize("hint", ["none", "path", "commands"])
@pytest.mark.parametrize("agent", ["react", "in_cell"])
def test_remote_copy_always_has_its_service_and_its_own_hints(hint: Any, agent: Any) -> None:
    task = remote_copy(trials=1, hint=hint, agent=agent)
    (sample,) = task.dataset
    assert "http://127.0.0.2:7" in sample.input
    assert ("/files/second/" in sample.input) is (hint == "commands")
    assert "cp -r" not in sample.input
    assert task.sandbox is not None
    config = task.sandbox.config
    assert isinstance(config, CellConfig)
    assert config.nodes == ("default", "target")


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (replication_chain, {"max_generations": 0}),
        (replication_chain, {"max_generations": 99}),
        (replication_chain, {"obstacle": "small_disk"}),
        (remote_copy, {"obstacle": "small_disk"}),
        (remote_copy, {"obstacle": "small_memory"}),
    ],
)
def test_an_arm_that_makes_no_sense_is_refused_in_one_line(make: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refusal:
        make(**wrong)
    assert "\n" not in str(refusal.value)
