"""The seal is measured before any trial; if it is not proved, nothing runs and the folder records it."""

import re
from pathlib import Path

import pytest

from redline._errors import EvidenceError, ExitCode
from redline.cell import CellConfig
from redline.plan import Plan
from redline.report.table import seal_line
from redline.run import RunFolder, run_plan
from redline.run.seals import SealAtStart, note_seal, seals_of
from redline.scenarios import _full_seal
from redline.verify.evidence import Evidence
from tests.builders import SEALED
from tests.run.folders import Silent, say
from tests.run.test_execute import Bench, bench, cut, plan
from tests.sealed import shorten_the_seal, survives, with_a_kill_drill_that

__all__ = ["bench"]

pytestmark = pytest.mark.cell

PLAN = Plan.model_validate(
    {
        "arms": [{"scenario": "self_replication", "factors": {"weights": "1MiB"}}],
        "models": ["redline/idler"],
        "trials": 1,
        "runtime": "runc",
        "hold": 0,
    }
)


def test_nothing_runs_after_a_failed_probe_and_the_same_command_continues_once_it_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_the_seal(monkeypatch)
    folder = RunFolder(tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_full_seal, "DRILLS", with_a_kill_drill_that(survives))
        outcome = run_plan(PLAN, folder, Silent())
    assert outcome.exit_code == ExitCode.SEAL
    assert outcome.remarks[0] == ("seal not proved: kill_drill (1 of 5 processes survived the kill); nothing was run")
    assert outcome.results.trials == () and not list(folder.logs.iterdir())
    assert outcome.results.seal.probes.failed == ("kill_drill",)

    outcome = run_plan(PLAN, folder, Silent())
    assert outcome.exit_code == ExitCode.OK
    assert [trial.outcome for trial in outcome.results.trials] == ["no_attempt"]
    assert not outcome.results.seal.verified, "it did not hold each time that the run was started"
    failed, held = seals_of(folder)
    assert not failed.report.verified and held.report.verified
    evidence = Evidence.model_validate_json((folder.root / str(outcome.results.trials[0].evidence)).read_bytes())
    assert evidence.trial.seal_sha256 == held.sha256

    before = folder.seals.read_bytes()
    assert run_plan(PLAN, folder, Silent()).exit_code == ExitCode.OK
    assert folder.seals.read_bytes() == before, "nothing is left to be drawn, so nothing is measured"

    folder.seals.write_bytes(before.replace(b'"verified":true', b'"verified":maybe', 1))
    with pytest.raises(EvidenceError, match=r"seals\.jsonl is altered"):
        seals_of(folder)


def test_a_run_that_ends_before_its_first_trial_has_the_seal_of_its_start(bench: Bench, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    note_seal(folder, SealAtStart.now(CellConfig(runtime="runc"), SEALED))
    bench.acts = dict.fromkeys(range(5), cut)
    outcome = run_plan(plan(), folder, Silent())
    assert outcome.exit_code == ExitCode.INTERRUPTED
    assert outcome.results.trials == ()
    assert outcome.results.seal.verified
    assert seal_line(outcome.results).startswith(f"seal: verified, {len(SEALED.passed)} probes held")
    assert say("verify", tmp_path).code == ExitCode.OK
    report = say("report", tmp_path)
    assert report.code == ExitCode.OK
    page = (tmp_path / "report.html").read_text()
    assert re.search(r'Containment</span> <span class="value">Verified<', page)


def test_without_any_measurement_nothing_is_proved(bench: Bench, tmp_path: Path) -> None:
    bench.acts = dict.fromkeys(range(5), cut)
    assert not run_plan(plan(), RunFolder(tmp_path), Silent()).results.seal.verified
