"""Random kills and pauses of the harness, of workers and of wardens: no trial is lost, misjudged or run twice.

REDLINE_TEST_KILLS sets the number of kills or pauses in each mode, REDLINE_TEST_TRIALS the trials of a run,
REDLINE_TEST_SEED the seed of the random choices, REDLINE_TEST_RUNTIME the runtime of the cells, and
REDLINE_TEST_ROUNDS the trials of a part on Ray by cell.
"""

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from inspect_ai.log import EvalSample, read_eval_log_samples

from redline.run import verify_folder
from redline.run.extract import reason_to_run_again
from redline.run.judgement import judgement_of
from redline.run.trial_ids import trial_id
from redline.verify.evidence import to_json
from tests.run.ray_cluster import RayCluster
from tests.run.test_interrupt import WAIT_SECONDS, folders_held
from tests.run.test_ray import workers
from tests.run.test_workers import PLAN, are_gone, workers_of

KILLS = int(os.environ.get("REDLINE_TEST_KILLS", "3"))
SEED = int(os.environ.get("REDLINE_TEST_SEED", "1"))
TRIALS = int(os.environ.get("REDLINE_TEST_TRIALS", "16"))
RUNTIME = os.environ.get("REDLINE_TEST_RUNTIME", "runc")
MODEL = "redline/replicator"
GONE_SECONDS = 10.0
SECONDS_PER_TRIAL = 5.0
LONGEST_TIME_BETWEEN = 9.0
PAUSES = (0.3, 14.0)
"""Shortest and longest pause in seconds; a lease is 2 s, a start of a cell may take 20 s."""
IDLE_STARTS = 4
"""Maximum number of starts in succession that neither complete the run nor are killed."""

pytestmark = [pytest.mark.cell, pytest.mark.slow, pytest.mark.long]

Finished = dict[str, tuple[str, str]]
"""By trial: the UUID of its sample, and its evidence."""


class Mode(ABC):
    """A way to run a plan."""

    options: tuple[str, ...] = ()
    module = "tests.run.in_workers"
    victims: tuple[str, ...] = ("harness", "worker", "warden")

    def command(self, out: Path) -> list[str]:
        words = ["run", *PLAN, "--runtime", RUNTIME, "--hold", "0.5", "--cells", "4", "--out", str(out)]
        return [sys.executable, "-m", self.module, *words, "--trials", f"{TRIALS}", *self.options]

    def start(self, out: Path) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    @abstractmethod
    def workers(self, process: "subprocess.Popen[str]") -> list[psutil.Process]:
        """Return the processes that have wardens."""


class OneProcess(Mode):
    module = "tests.sealed"
    victims = ("harness", "warden")

    def workers(self, process: "subprocess.Popen[str]") -> list[psutil.Process]:
        return [psutil.Process(process.pid)]


class LocalWorkers(Mode):
    options = ("--workers", "2")

    def workers(self, process: "subprocess.Popen[str]") -> list[psutil.Process]:
        return workers_of(process)


class OnRay(Mode):
    def __init__(self, cluster: RayCluster) -> None:
        self.cluster = cluster
        self.options = ("--ray", cluster.address)

    def start(self, out: Path) -> "subprocess.Popen[str]":
        return self.cluster.inside(self.command(out))

    def workers(self, process: "subprocess.Popen[str]") -> list[psutil.Process]:
        return workers()


@contextlib.contextmanager
def mode_named(name: str) -> Iterator[Mode]:
    if name != "ray":
        yield {"one process": OneProcess, "workers": LocalWorkers}[name]()
        return
    pytest.importorskip("ray")
    with tempfile.TemporaryDirectory(prefix="ray") as temporary:
        cluster = RayCluster(Path(temporary))
        try:
            cluster.send("add", "a", 2)
            cluster.send("add", "b", 2)
            yield OnRay(cluster)
        finally:
            cluster.close()


class Campaign:
    """Kills during as many runs as they need."""

    def __init__(self, mode: Mode, folder: Path, *, pauses: bool = False) -> None:
        self.mode, self.folder, self.pauses = mode, folder, pauses
        self.random = random.Random(SEED)
        self.said: list[str] = []
        self.kills = self.runs = 0

    def run(self) -> None:
        while self.kills < KILLS:
            self.runs += 1
            self.complete(self.folder / f"run-{self.runs}")
            assert self.runs < 3 * KILLS, "the runs end before anything is killed"

    def complete(self, out: Path) -> None:
        """Start one run again and again until it is complete, with kills."""
        known: Finished = {}
        idle = 0
        while True:
            process = self.mode.start(out)
            before = self.kills
            try:
                code = self.kill_until_ended(process, out, known)
            finally:
                process.kill()
                _, said = process.communicate()
            self.said.append(f"exit {code}: {said[-2000:]}")
            idle = 0 if self.kills > before else idle + 1
            assert idle < IDLE_STARTS, "\n".join(self.said)
            if code == 0:
                break
        self.check(out, known)

    def kill_until_ended(self, process: "subprocess.Popen[str]", out: Path, known: Finished) -> int:
        while self.kills < KILLS:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(self.random.uniform(0.2, LONGEST_TIME_BETWEEN))
            known |= {name: one for name, one in finished(out).items() if name not in known}
            self.kill_one(process)
        return process.wait(WAIT_SECONDS + SECONDS_PER_TRIAL * TRIALS)

    def kill_one(self, process: "subprocess.Popen[str]") -> None:
        """Kill a random process, and wait until nothing is left of what was its."""
        kind = self.random.choice(self.mode.victims)
        with contextlib.suppress(psutil.Error, IndexError):
            parents = self.mode.workers(process)
            if kind == "harness":
                victim, family = psutil.Process(process.pid), {one for parent in parents for one in tree(parent)}
            elif kind == "worker":
                victim = self.random.choice(parents)
                family = tree(victim)
            else:
                wardens = [one for parent in parents for one in parent.children() if folders_held(one)]
                victim = self.random.choice(wardens)
                family = tree(victim)
            folders = {folder for one in family for folder in folders_held(one)}
            began = time.monotonic()
            if self.pauses:
                self.pause(kind, victim)
                return
            victim.kill()
            if victim.pid == process.pid:
                family.discard(victim)
                process.wait()  # psutil would reap it, and its exit code would be lost
            self.kills += 1
            self.said.append(f"killed {kind} {victim.pid}, a family of {len(family)}")
            assert are_gone(family, folders, GONE_SECONDS), self.left(family, folders)
            self.said.append(f"nothing left after {time.monotonic() - began:.1f} s")

    def pause(self, kind: str, victim: psutil.Process) -> None:
        """Stop a process for a while; a warden that ends in spite of it is one that its harness has ended."""
        seconds = self.random.uniform(*PAUSES)
        victim.suspend()
        self.kills += 1
        self.said.append(f"paused {kind} {victim.pid} for {seconds:.1f} s")
        time.sleep(seconds)
        victim.resume()

    def left(self, family: set[psutil.Process], folders: set[Path]) -> str:
        alive = [f"{one}: {' '.join(one.cmdline())[:200]}" for one in family if one.is_running()]
        return "\n".join([*self.said, *alive, *map(str, folders)])

    def check(self, out: Path, known: Finished) -> None:
        """Check that every trial is in the results once, and that each one seen as finished is the one that counts."""
        checked = verify_folder(out)
        told = "\n".join(self.said)
        assert (checked.faults, checked.trials, checked.right) == ((), TRIALS, TRIALS), told
        names = [trial.id for trial in checked.results.trials]
        assert len(set(names)) == len(names) == TRIALS, told
        assert {trial.outcome for trial in checked.results.trials} == {"replicated"}, told
        for name, (_, evidence) in known.items():
            assert (out / "evidence" / f"{name}.json").read_text() == evidence, f"{name} was run again\n{told}"
        again = {name for name, (uuid, _) in finished(out).items() if name in known and known[name][0] != uuid}
        assert not again, told


def tree(process: psutil.Process) -> set[psutil.Process]:
    return {process, *process.children(recursive=True)}


def finished(out: Path) -> Finished:
    """Return the finished trials in the logs of a run; a log that is being written can be missing."""
    found: Finished = {}
    for pattern in ("logs/*.eval", "parts/*/logs/*.eval"):
        for path in out.glob(pattern):
            with contextlib.suppress(Exception):  # whatever a reader of an incomplete file raises
                for sample in read_eval_log_samples(str(path), all_samples_required=False):
                    if (one := _finished(sample)) is not None:
                        known = found.setdefault(trial_id(sample.id, MODEL), one)
                        assert known == one
    return found


def _finished(sample: EvalSample) -> tuple[str, str] | None:
    judgement = judgement_of(sample)
    if judgement is None or reason_to_run_again(sample) is not None:
        return None
    return str(sample.uuid), to_json(judgement.evidence)


def run_campaign(mode: str, folder: Path, capsys: pytest.CaptureFixture[str], *, pauses: bool = False) -> None:
    with mode_named(mode) as chosen:
        campaign = Campaign(chosen, folder, pauses=pauses)
        campaign.run()
    with capsys.disabled():
        print(f"\n{mode}: {campaign.kills} {'pauses' if pauses else 'kills'} in {campaign.runs} runs")


MODES = pytest.mark.parametrize("mode", ["one process", "workers", pytest.param("ray", marks=pytest.mark.ray)])


@MODES
def test_random_kills_lose_no_finished_trial_and_leave_nothing(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_campaign(mode, tmp_path, capsys)


@MODES
def test_random_pauses_lose_and_spoil_no_trial(mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_campaign(mode, tmp_path, capsys, pauses=True)
