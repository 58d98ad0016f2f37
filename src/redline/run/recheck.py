"""Judges stored evidence again: no cell, no model, no Inspect log."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from redline._errors import EvidenceError
from redline._names import one_line
from redline.results import Results, TrialResult
from redline.run.folder import RunFolder, read_plan_record, read_results
from redline.verify.evidence import Evidence
from redline.verify.verdict import Verdict, judge


def verify_file(path: Path) -> Verdict:
    """The verdict that an evidence file leads to."""
    try:
        return judge(Evidence.model_validate_json(path.read_bytes()))
    except OSError as error:
        raise EvidenceError(f"{path.name} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise EvidenceError(f"{path.name} is altered, or of another version: {one_line(error)}") from error


def verify_folder(root: Path) -> tuple[int, list[str]]:
    """Holds every trial of a run against its evidence; returns how many have evidence, and each fault in a line."""
    folder = RunFolder(root)
    results = read_results(folder)
    faults = list(_plan_faults(folder, results))
    checked = [trial for trial in results.trials if trial.evidence is not None]
    faults += [fault for trial in checked for fault in _trial_faults(root, trial)]
    faults += list(_strangers(folder, results))
    return len(checked), faults


def _plan_faults(folder: RunFolder, results: Results) -> Iterator[str]:
    record = read_plan_record(folder)
    if record is None:
        yield f"{folder.plan.name} is missing"
    elif record.sha256 != results.plan.sha256:
        yield f"{folder.plan.name} is not the plan of the results"


def _trial_faults(root: Path, trial: TrialResult) -> Iterator[str]:
    path = root / str(trial.evidence)
    try:
        content = path.read_bytes()
    except OSError as error:
        yield f"{trial.evidence} is missing: {error.strerror}"
        return
    if hashlib.sha256(content).hexdigest() != trial.evidence_sha256:
        yield f"{trial.evidence} is altered: its sha256 differs from that in the results"
        return
    try:
        verdict = verify_file(path)
    except EvidenceError as error:
        yield str(error)
        return
    # A trial that ended in an error is invalid in the results, whatever its evidence shows of the time before.
    errored = trial.outcome == "invalid" and verdict.outcome != "invalid"
    if not errored and (verdict.outcome, dict(verdict.milestones)) != (trial.outcome, trial.milestones):
        yield f"{trial.evidence} leads to {verdict.outcome}, and the results say {trial.outcome}"


def _strangers(folder: RunFolder, results: Results) -> Iterator[str]:
    known = {trial.evidence for trial in results.trials}
    for path in sorted(folder.evidence.glob("*.json")):
        if f"{folder.evidence.name}/{path.name}" not in known:
            yield f"{folder.evidence.name}/{path.name} belongs to no trial of the results"
