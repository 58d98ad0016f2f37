"""The full seal holds on every runtime, reports what a runtime lacks, and fails closed."""

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest
from inspect_ai import eval

from redline._errors import SealError
from redline.cell import CellConfig, open_cell
from redline.cell.config import RuntimeName
from redline.cell.errors import CellError
from redline.cell.open import _shared
from redline.scenarios import _full_seal, full_seal
from redline.scenarios.self_replication import self_replication
from redline.seal import PROBE_NAMES, SealReport
from tests.rootless import rootless
from tests.sealed import errs, shorten_the_seal, with_a_kill_drill_that

pytestmark = [pytest.mark.cell, pytest.mark.slow]

LACKING = {
    "runc": set[str](),
    "runsc": {"refused_system_calls", "few_devices"},
    "docker": {"outside_identity", "no_nested_namespace", "own_namespaces", "kernel_interfaces", "declared_mounts"},
}
"""Probes that a runtime cannot pass. Docker lacks fewer of them if its engine remaps user ids."""

RUNTIMES = [
    "runc",
    pytest.param("runsc", marks=pytest.mark.runsc),
    pytest.param("docker", marks=pytest.mark.docker),
]


@pytest.mark.anyio
@pytest.mark.first_cases(1)
@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_every_probe_holds_except_those_that_the_runtime_lacks(runtime: RuntimeName) -> None:
    report = await full_seal(CellConfig(runtime=runtime))
    assert report.verified, report.summary()
    lacking = {finding.name for finding in report.lacking}
    assert lacking <= LACKING[runtime]
    warned = {finding.name for finding in report.warnings}
    assert warned <= {"security_label"}
    assert set(report.passed) | lacking | warned == set(PROBE_NAMES)
    assert all(finding.reason and finding.found for finding in report.lacking)
    assert report.not_protected


@pytest.mark.long
@pytest.mark.anyio
async def test_both_nodes_of_a_cell_are_probed() -> None:
    report = await full_seal(CellConfig(runtime="runc", nodes=("default", "target")))
    assert report.verified, report.summary()


@pytest.mark.long
def test_it_holds_without_root_and_names_the_missing_bounds() -> None:
    done = rootless([sys.executable, "-m", "redline", "seal", "--runtime", "runc", "--json"])
    assert done.returncode == 0, done.stdout + done.stderr
    report = SealReport.model_validate_json(done.stdout)
    assert report.verified
    assert [finding.name for finding in report.lacking] == ["limits_bite"]
    assert "cgroup" in report.lacking[0].reason
    assert report.notes


@pytest.mark.long
@pytest.mark.anyio
async def test_a_drill_that_raises_an_error_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_full_seal, "DRILLS", with_a_kill_drill_that(errs))
    report = await full_seal(CellConfig(runtime="runc"))
    assert not report.verified
    assert [finding.reason for finding in report.failed] == [
        "did not run (ZeroDivisionError: a fault of the drill's own)"
    ]


class Killer:
    """A drill during which the warden of the measurement is killed, some times."""

    def __init__(self, times: int, reason: str | None = None, after_seconds: float = 0.0) -> None:
        self.left, self.reason, self.after_seconds, self.calls = times, reason, after_seconds, 0

    async def __call__(self, config: CellConfig) -> str | None:
        self.calls += 1
        if not self.left:
            return None
        self.left -= 1
        await anyio.sleep(self.after_seconds)
        shared = _shared.get()
        assert shared is not None
        os.kill(shared._process.pid, signal.SIGKILL)
        if self.reason is None:
            async with open_cell(config):
                pass
        return self.reason


@pytest.mark.anyio
async def test_a_measurement_whose_warden_was_killed_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    killer = Killer(times=1)
    shorten_the_seal(monkeypatch)
    monkeypatch.setattr(_full_seal, "DRILLS", with_a_kill_drill_that(killer))
    report = await full_seal(CellConfig(runtime="runc"))
    assert report.verified, report.summary()
    assert killer.calls == 2


@pytest.mark.long
@pytest.mark.anyio
async def test_a_measurement_is_repeated_a_limited_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    killer = Killer(times=99)
    shorten_the_seal(monkeypatch)
    monkeypatch.setattr(_full_seal, "DRILLS", with_a_kill_drill_that(killer))
    with pytest.raises(SealError, match="the warden was killed during each of 3 measurements"):
        await full_seal(CellConfig(runtime="runc"))
    assert killer.calls == _full_seal.MEASUREMENTS


@pytest.mark.long
@pytest.mark.anyio
async def test_what_a_probe_found_counts_whatever_happened_to_the_warden(monkeypatch: pytest.MonkeyPatch) -> None:
    killer = Killer(times=1, reason="a process survived", after_seconds=1.0)  # once the cell is made
    shorten_the_seal(monkeypatch)
    monkeypatch.setattr(_full_seal, "DRILLS", with_a_kill_drill_that(killer))
    report = await full_seal(CellConfig(runtime="runc"))
    assert "a process survived" in report.summary()
    assert killer.calls == 1


@pytest.mark.anyio
async def test_without_a_cell_one_line_says_that_the_seal_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_the_seal(monkeypatch)

    def refuse(config: CellConfig) -> None:
        raise CellError("RuntimeError: no cgroup\nmore")

    monkeypatch.setattr(_full_seal, "open_cell", refuse)
    with pytest.raises(SealError, match="seal not proved: no cell on runc .*: no cgroup.*. Run `redline doctor`"):
        await full_seal(CellConfig(runtime="runc"))


def test_a_task_run_by_inspect_measures_the_seal_once_and_logs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_the_seal(monkeypatch)
    task = self_replication(trials=2, weights="1MiB", runtime="runc", hold=0.5)
    (log,) = eval(task, model="redline/idler", log_dir=str(tmp_path), display="log")
    assert log.samples
    found = [SealReport.model_validate(sample.metadata["seal"]) for sample in log.samples]
    assert found[0].verified and found[0].profile == "full"
    assert found[0] == found[1], "the second trial uses the report of the first"


@pytest.mark.long
def test_a_task_whose_seal_is_not_proved_runs_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_full_seal, "DRILLS", with_a_kill_drill_that(errs))
    task = self_replication(trials=2, weights="1MiB", runtime="runc")
    (log,) = eval(task, model="redline/replicator", log_dir=str(tmp_path), display="log")
    assert log.samples
    for sample in log.samples:
        assert sample.error is not None and "the seal is not proved" in sample.error.message
        assert not any(event.event in ("model", "tool") for event in sample.events)
