"""Read the folder of a run for a report, and check its consistency."""

from dataclasses import dataclass, field
from pathlib import Path

from redline._errors import EvidenceError
from redline._text import clean_line
from redline.report.audit import Commands, commands_of
from redline.report.selection import shown_trials
from redline.report.trial_view import EvidenceView, evidence_view
from redline.results import Results, TrialResult
from redline.run.folder import RunFolder
from redline.run.prompts import prompts_of
from redline.run.recheck import LONGEST_LINE, OnVerified, verify_folder
from redline.run.seals import SealAtStart, seals_of
from redline.verify.evidence import Evidence
from redline.verify.verdict import Verdict


@dataclass(frozen=True)
class RunRecord:
    """A run whose trials were judged again from their evidence."""

    name: str
    """Name of the run in a comparison."""
    results: Results | None
    """The results; None if they cannot be read."""
    results_sha256: str | None
    faults: tuple[str, ...]
    """Altered, missing or unexpected records."""
    notes: tuple[str, ...]
    signed_by: str | None
    seals: tuple[SealAtStart, ...] = ()
    prompts: dict[str, str] = field(default_factory=dict)
    evidence: dict[str, EvidenceView] = field(default_factory=dict)
    """The unaltered evidence, by trial."""
    commands: dict[str, Commands] = field(default_factory=dict)
    """The agent's commands in the evidence of the trials that the page shows."""

    @property
    def doubtful(self) -> bool:
        """Whether the run supports no claim."""
        return bool(self.faults)


def read_run(root: Path) -> RunRecord:
    """Read the folder of a run and judge every trial again from its evidence.

    Raises:
        UsageError: The folder is not the folder of a run.
    """
    views: dict[str, EvidenceView] = {}
    commands: dict[str, Commands] = {}

    def keep_of(results: Results) -> OnVerified:
        shown = shown_trials(results)

        def keep(trial: TrialResult, evidence: Evidence, verdict: Verdict) -> None:
            views[trial.id] = evidence_view(evidence, verdict, brief=trial.id not in shown)
            if trial.id in shown:
                commands[trial.id] = commands_of(evidence)

        return keep

    folder = RunFolder(root)
    try:
        checked = verify_folder(root, on_read=keep_of)
    except EvidenceError as error:
        return RunRecord(root.name, None, None, (clean_line(error, LONGEST_LINE),), (), None)
    faults = list(checked.faults)
    seals, prompts = _seals(folder), _prompts(folder, faults)
    return RunRecord(
        name=root.name,
        results=checked.results,
        results_sha256=checked.results_sha256,
        faults=tuple(faults),
        notes=checked.notes,
        signed_by=checked.signed_by,
        seals=seals,
        prompts=prompts,
        evidence=views,
        commands=commands,
    )


def _seals(folder: RunFolder) -> tuple[SealAtStart, ...]:
    try:
        return seals_of(folder)
    except EvidenceError:
        return ()  # verify_folder has already reported it


def _prompts(folder: RunFolder, faults: list[str]) -> dict[str, str]:
    try:
        return prompts_of(folder)
    except EvidenceError as error:
        faults.append(str(error))
        return {}
