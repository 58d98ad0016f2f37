"""A run on a Ray cluster: every trial once, whatever ends a worker, a node or the run."""

import json
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from redline._supervised import SupervisedProcess
from redline.run import verify_folder
from tests.run.in_workers import BROKEN, NODE
from tests.run.ray_cluster import RayCluster
from tests.run.test_interrupt import WAIT_SECONDS, folders_held, until
from tests.run.test_merge import steady
from tests.run.test_workers import are_gone, command, evidence_of_parts, finished, measured_away

TRIALS = 8
MANY = 12
GONE_SECONDS = 30.0

pytestmark = [pytest.mark.cell, pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Start a head without cells, and two nodes with two cells each."""
    with tempfile.TemporaryDirectory(prefix="ray") as temporary:  # short, since Ray has sockets in it
        running = RayCluster(Path(temporary))
        try:
            running.send("add", "a", 2)
            running.send("add", "b", 2)
            yield running
        finally:
            running.close()


@pytest.fixture(autouse=True)
def _nothing_left(cluster: RayCluster) -> Iterator[None]:
    yield
    cluster.kill_started()


def start(cluster: RayCluster, out: Path, trials: int = TRIALS) -> "subprocess.Popen[str]":
    return cluster.inside([*command(out, "--ray", cluster.address), "--trials", str(trials)])


def complete(cluster: RayCluster, out: Path, trials: int = TRIALS) -> str:
    process = start(cluster, out, trials)
    _, said = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, said
    return said


def workers() -> list[psutil.Process]:
    """Return the workers of all nodes."""
    return [one for one in psutil.process_iter() if is_worker(one)]


def is_worker(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[-1:] == ["--as-a-worker"] and NODE in process.environ()
    except psutil.Error:
        return False


class Running:
    """A run that has finished a trial."""

    def __init__(self, cluster: RayCluster, out: Path) -> None:
        self.process = start(cluster, out)
        self.family: set[psutil.Process] = set()
        self.folders: set[Path] = set()
        assert until(lambda: finished(out) > 0), "no trial was finished"
        self.note_family()

    def note_family(self) -> None:
        for worker in workers():
            family = {worker, *worker.children(recursive=True)}
            self.family |= family
            self.folders |= {folder for process in family for folder in folders_held(process)}

    def end(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode, said

    def nothing_is_left(self) -> bool:
        return are_gone(self.family, self.folders, GONE_SECONDS)


def results_of(out: Path, trials: int = TRIALS) -> dict[str, Any]:
    """Check that every trial is in the verified results once, and return them."""
    checked = verify_folder(out)
    assert (checked.faults, checked.trials, checked.right) == ((), trials, trials)
    names = [trial.id for trial in checked.results.trials]
    assert len(set(names)) == len(names) == trials
    assert {trial.outcome for trial in checked.results.trials} == {"replicated"}
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    assert all(part["seal"]["verified"] for part in results["parts"])
    return results


def nodes_in(results: dict[str, Any]) -> set[str]:
    return {part["node"] for part in results["parts"]}


def test_results_of_a_cluster_are_those_of_one_process(cluster: RayCluster, tmp_path: Path) -> None:
    complete(cluster, tmp_path / "ray", MANY)
    alone = [*command(tmp_path / "alone", module="tests.sealed"), "--trials", str(MANY)]
    subprocess.run(alone, check=True, capture_output=True, cwd=Path(__file__).parents[2], timeout=WAIT_SECONDS)
    found = results_of(tmp_path / "ray", MANY)
    expected = json.loads((tmp_path / "alone" / "results.json").read_text())
    assert json.dumps(measured_away(steady(found))) == json.dumps(measured_away(steady(expected)))
    assert [one["trials"] for one in found["parts"]] == [2] * 6
    assert nodes_in(found) == {"a", "b"}
    assert not list((tmp_path / "ray" / "parts").glob(".shared*"))


def test_a_killed_ray_worker_loses_no_finished_trial(cluster: RayCluster, tmp_path: Path) -> None:
    run = Running(cluster, tmp_path)
    victim = workers()[0].parent()
    assert victim is not None and SupervisedProcess.__name__ in victim.name() + " ".join(victim.cmdline())
    victim.kill()
    code, said = run.end()
    assert code == 0, said
    assert "the part is run again" in said
    results_of(tmp_path)
    assert run.nothing_is_left()


def test_a_killed_run_leaves_nothing_and_the_same_command_completes_it(cluster: RayCluster, tmp_path: Path) -> None:
    run = Running(cluster, tmp_path)
    run.process.kill()
    run.end()
    assert run.nothing_is_left()
    kept = evidence_of_parts(tmp_path)
    complete(cluster, tmp_path)
    results_of(tmp_path)
    merged = {path.name: path.read_bytes() for path in (tmp_path / "evidence").glob("*.json")}
    assert kept.items() <= merged.items()


def test_one_ctrl_c_ends_all_in_order_and_the_same_command_completes_it(cluster: RayCluster, tmp_path: Path) -> None:
    run = Running(cluster, tmp_path)
    run.process.send_signal(signal.SIGINT)
    code, said = run.end()
    assert (code, said.count("Stopping:")) == (130, 1), said
    assert run.nothing_is_left()
    checked = verify_folder(tmp_path)
    assert not checked.faults and 0 < checked.trials < TRIALS
    complete(cluster, tmp_path)
    results_of(tmp_path)


def test_a_node_is_removed_and_another_one_added(cluster: RayCluster, tmp_path: Path) -> None:
    run = Running(cluster, tmp_path)
    cluster.send("kill", "b")
    cluster.send("add", "c", 2)
    code, said = run.end()
    assert code == 0, said
    assert "c" in nodes_in(results_of(tmp_path)), said
    assert run.nothing_is_left()


def test_a_node_without_a_proved_seal_runs_nothing_and_the_others_go_on(cluster: RayCluster, tmp_path: Path) -> None:
    cluster.send("add", BROKEN, 2)
    said = complete(cluster, tmp_path)
    cluster.send("kill", BROKEN)
    assert "runs no part: the seal was not proved" in said
    assert BROKEN not in nodes_in(results_of(tmp_path))
