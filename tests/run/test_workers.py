"""Local workers: every trial once, whatever ends a worker or the run, and nothing left behind."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from redline.run import verify_folder
from redline.run.parts.part import read_part_record
from tests.run.test_interrupt import WAIT_SECONDS, finish, folders_held, until
from tests.run.test_merge import steady

TRIALS = 8
GONE_SECONDS = 10.0

pytestmark = [pytest.mark.cell, pytest.mark.slow]

PLAN = ("self_replication", "-T", "weights=4MiB", "--model", "redline/replicator", "--runtime", "runc")


def command(out: Path, *options: str, module: str = "tests.run.in_workers") -> list[str]:
    words = ["run", *PLAN, "--trials", str(TRIALS), "--hold", "0.5", "--cells", "2", "--out", str(out)]
    return [sys.executable, "-m", module, *words, *options]


def start(out: Path, workers: int = 2) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(out, "--workers", str(workers)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def complete(out: Path) -> str:
    """Run the command to its end; return its messages."""
    return finish(start(out))


def finished(out: Path) -> int:
    """Return the number of trials in the parts' logs."""
    count = 0
    for path in out.glob("parts/*/logs/*.eval"):
        with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as log:  # it is being written
            count += sum(name.startswith("samples/") for name in log.namelist())
    return count


def workers_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    return [one for one in psutil.Process(process.pid).children() if "--as-a-worker" in one.cmdline()]


class Running:
    """A run in workers that has finished a trial in the cells of one of them."""

    def __init__(self, out: Path) -> None:
        before = finished(out)
        self.process = start(out)
        self.family: set[psutil.Process] = set()
        self.folders: set[Path] = set()
        """State folders of the wardens, whose names are also in the control groups and mounts of their cells."""
        assert until(lambda: finished(out) > before), "no trial was finished"
        self.note_family()

    def note_family(self) -> None:
        self.family |= set(psutil.Process(self.process.pid).children(recursive=True))
        self.folders |= {folder for process in self.family for folder in folders_held(process)}

    def end(self, *numbers: signal.Signals) -> tuple[int, str]:
        self.note_family()
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(1.0)
        _, said = self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode, said

    def nothing_is_left(self) -> bool:
        return are_gone(self.family, self.folders)


def are_gone(processes: set[psutil.Process], folders: set[Path], seconds: float = GONE_SECONDS) -> bool:
    """Return whether processes end in time, and nothing of the cells of wardens is left."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    running = [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    return not running and until(lambda: not any(map(left_of, folders)), seconds)


def left_of(folder: Path) -> bool:
    """Return whether a warden's state folder, or a control group or mount of its cells, still exists."""
    groups = any(Path("/sys/fs/cgroup").glob(f"*/pod-{folder.name}-*"))
    mounts = Path("/proc/self/mounts").read_text()
    return folder.exists() or groups or f"{folder}/" in mounts


def finished_once(out: Path) -> None:
    """Check that every trial is in the results once, and that no finished trial ran in two logs."""
    checked = verify_folder(out)
    assert (checked.faults, checked.trials, checked.right) == ((), TRIALS, TRIALS)
    names = [trial.id for trial in checked.results.trials]
    assert len(set(names)) == len(names) == TRIALS
    assert {trial.outcome for trial in checked.results.trials} == {"replicated"}


def evidence_of_parts(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("parts/*/evidence/*.json")}


@pytest.mark.long
def test_results_of_workers_are_those_of_one_process(tmp_path: Path) -> None:
    complete(tmp_path / "parts")
    alone = command(tmp_path / "alone", module="tests.sealed")
    subprocess.run(alone, check=True, capture_output=True, cwd=Path(__file__).parents[2], timeout=WAIT_SECONDS)
    finished_once(tmp_path / "parts")
    both = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("parts", "alone")]
    found, expected = (json.dumps(measured_away(steady(document))) for document in both)
    assert found == expected
    assert [one["trials"] for one in both[0]["parts"]] == [4, 4]
    assert {one["node"] for one in both[0]["parts"]} == {os.uname().nodename}


def measured_away(value: object) -> object:
    """Return a document without process IDs, durations and other measurements, which differ between any two runs."""
    if isinstance(value, dict):
        return {key: measured_away(one) for key, one in value.items() if key not in {"pid", "reached", "waited"}}
    if isinstance(value, list):
        return [measured_away(one) for one in value]
    return value


@pytest.mark.long
def test_a_killed_worker_is_started_again_and_its_finished_trials_are_kept(tmp_path: Path) -> None:
    run = Running(tmp_path)
    victim = workers_of(run.process)[0]
    victim.kill()
    code, said = run.end()
    assert code == 0, said
    assert re.search(r"the worker of part ./2 ended unexpectedly; starting it again", said)
    finished_once(tmp_path)
    assert run.nothing_is_left()


@pytest.mark.long
def test_a_killed_run_ends_its_workers_and_the_same_command_completes_it(tmp_path: Path) -> None:
    run = Running(tmp_path)
    code, _ = run.end(signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert run.nothing_is_left()
    kept = evidence_of_parts(tmp_path)
    complete(tmp_path)
    finished_once(tmp_path)
    merged = {path.name: path.read_bytes() for path in (tmp_path / "evidence").glob("*.json")}
    assert kept.items() <= merged.items()


@pytest.mark.long
def test_one_ctrl_c_ends_all_in_order_and_the_same_command_completes_it(tmp_path: Path) -> None:
    run = Running(tmp_path)
    code, said = run.end(signal.SIGINT)
    assert (code, said.count("Stopping:")) == (130, 1), said
    assert run.nothing_is_left()
    assert not verify_folder(tmp_path).faults
    kept = verify_folder(tmp_path).trials
    assert 0 < kept < TRIALS
    complete(tmp_path)
    finished_once(tmp_path)


@pytest.mark.long
def test_a_second_ctrl_c_cancels_and_loses_no_finished_trial(tmp_path: Path) -> None:
    run = Running(tmp_path)
    code, said = run.end(signal.SIGINT, signal.SIGINT)
    assert code in {0, 130}, said  # the second can come after the last trial
    assert run.nothing_is_left()
    checked = verify_folder(tmp_path)
    assert not checked.faults and checked.trials > 0
    complete(tmp_path)
    finished_once(tmp_path)


@pytest.mark.long
def test_a_finished_run_starts_no_worker_and_has_as_many_parts_as_before(tmp_path: Path) -> None:
    complete(tmp_path)
    first = (tmp_path / "results.json").read_bytes()
    logs = {path.name: path.stat().st_size for path in tmp_path.glob("parts/*.log")}
    process = start(tmp_path, workers=3)
    _, said = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, said
    assert (tmp_path / "results.json").read_bytes() == first
    assert {path.name: path.stat().st_size for path in tmp_path.glob("parts/*.log")} == logs
    records = [read_part_record(path) for path in tmp_path.glob("parts/*") if path.is_dir()]
    assert {str(record.part) for record in records if record is not None} == {"1/2", "2/2"}
