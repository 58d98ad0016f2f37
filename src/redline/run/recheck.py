"""Verify the folder of a run offline: judge its stored evidence again, without cells, models or Inspect logs."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel

from redline import __version__
from redline._errors import EvidenceError, RedlineError
from redline._names import one_line
from redline._records import RecordError, Records, StrictJsonError, read_bounded, record_limits, strict_json
from redline._text import clean_line
from redline.results import JudgedTrial, Results, TrialResult, assemble
from redline.run.chain import has_head
from redline.run.folder import RunFolder, read_plan_record, results_content
from redline.run.judgement import as_judged, reading_of, seal_of
from redline.run.parts.records import part_faults
from redline.run.preflight import latest, preflights_of
from redline.run.seals import SealAtStart, seals_of
from redline.run.servers import served_models
from redline.run.signature import signed_by
from redline.run.trial_ids import trial_id
from redline.verify.evidence import Evidence
from redline.verify.verdict import Verdict, judge

LONGEST_LINE = 400

OnVerified = Callable[[TrialResult, Evidence, Verdict], None]
OnRead = Callable[[Results], OnVerified]
"""Receives a trial with its unaltered evidence and the verdict that follows from it."""


@dataclass(frozen=True)
class Checked:
    """Result of verifying the folder of a run."""

    trials: int
    """Trials with evidence."""
    right: int
    """Trials with unaltered evidence that leads to the verdict in the results."""
    faults: tuple[str, ...]
    """Altered, missing, unknown or inconsistent records, one line each with the name of the file."""
    notes: tuple[str, ...]
    """Further remarks for the reader, one line each."""
    signed_by: str | None
    """Public key that signed the folder, in hex; None without a signature."""
    results: Results
    """The verified results."""
    results_sha256: str
    """SHA-256 of the bytes of the results."""


def verify_file(path: Path) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict that follows from an evidence file, and remarks about the file.

    In the folder of a run, the results also show whether the file is unaltered.

    Raises:
        EvidenceError: The file cannot be read or judged, or is altered.
    """
    path = path.absolute()
    if path.is_symlink():
        raise EvidenceError(f"{path.name} is a symbolic link: give its target")
    content = _content(path)
    evidence = _as_evidence(path.name, content)
    folder = RunFolder(path.parent.parent)
    if path.parent.name == folder.evidence.name and folder.files.exists(folder.results.name):
        bound = {trial.evidence: trial.evidence_sha256 for trial in _read(folder)[0].trials}
        sha256 = bound.get(f"{folder.evidence.name}/{path.name}")
        if sha256 is not None and sha256 != hashlib.sha256(content).hexdigest():
            raise EvidenceError(_altered(path.name))
    for fault in _attachment_faults(Records(path.parent), path.stem, evidence):
        raise EvidenceError(fault)
    return judge(evidence), tuple(_version_notes({evidence.redline_version}))


def read_evidence(path: Path) -> Evidence:
    """Return the evidence in a file.

    Raises:
        EvidenceError: The file contains no evidence that this version can judge.
    """
    return _as_evidence(path.name, _content(path))


def _content(path: Path) -> bytes:
    try:
        return read_bounded(path, record_limits().document_bytes)
    except OSError as error:
        raise EvidenceError(f"{path.name} cannot be read: {error.strerror}") from error


def _as_evidence(name: str, content: bytes) -> Evidence:
    document: object = None
    try:
        document = strict_json(content)
        return Evidence.model_validate_json(content)
    except ValueError as error:
        raise EvidenceError(_unreadable(name, document, Evidence, error)) from error


def verify_folder(root: Path, key: Ed25519PublicKey | None = None, on_read: OnRead | None = None) -> Checked:
    """Verify the records of a run against their hash chain, and every trial against its evidence.

    Args:
        root: The folder.
        key: Required signer; None requires no signature.
        on_read: Called with the results before the trials are verified. What it returns is called with every trial
            whose evidence is unaltered, so that callers need not read the files again.

    Raises:
        EvidenceError: The results cannot be read.
        UsageError: It is not the folder of a run.
    """
    folder = RunFolder(root)
    results, content = _read(folder)
    on_verified = None if on_read is None else on_read(results)
    faults = [*_results_faults(folder, results, content), *_record_faults(folder, results)]
    for others in (_model_faults, _preflight_faults, part_faults):
        faults += others(folder, results)
    at_start = _seals(folder, faults)
    seals = {seal.sha256 for seal in at_start}
    judged: list[JudgedTrial] = []
    versions = {results.redline_version}
    known: set[str] = set()
    unreadable: set[str] = set()
    right = 0
    for trial in results.trials:
        if trial.evidence is None:
            if trial.outcome != "invalid":
                faults.append(f"{folder.results.name} says {trial.outcome} of {trial.id} and names no evidence")
            judged.append(_without_evidence(results, trial))
            continue
        known.add(trial.evidence)
        attachments = trial.evidence.removesuffix(".json")
        try:
            evidence = _bound_evidence(folder, trial.evidence, trial)
        except EvidenceError as error:
            faults.append(str(error))
            unreadable.add(attachments)  # without the evidence, the names of its attachments are unknown
            continue
        known |= {f"{attachments}/{attachment.name}" for attachment in evidence.attachments}
        verdict = judge(evidence)
        versions.add(evidence.redline_version)
        found = [
            *_attachment_faults(folder.files, attachments, evidence),
            *_trial_faults(results, trial, evidence, verdict),
        ]
        if evidence.trial.seal_sha256 is not None and evidence.trial.seal_sha256 not in seals:
            found.append(f"{trial.evidence} names a seal that {folder.seals.name} does not contain")
        faults += found
        right += not found
        judged.append(_judged(trial, evidence, verdict))
        if on_verified is not None:
            on_verified(trial, evidence, verdict)
    faults += _unknown_files(folder, known, unreadable)
    again = assemble(results.plan, judged, at_start=[reading_of([seal.report]) for seal in at_start])
    if not faults and again.conditions != results.conditions:
        faults.append(f"the rates in {folder.results.name} do not follow from its trials")
    if not faults and again.decision != results.decision:
        faults.append(f"the decision in {folder.results.name} does not follow from its rates and plan")
    if not faults and (again.seal.verified, again.seal.probes) != (results.seal.verified, results.seal.probes):
        faults.append(f"the seal in {folder.results.name} does not follow from {folder.seals.name} and its trials")
    signer = None
    try:
        signer = signed_by(folder, results.chain.head, key)
    except EvidenceError as error:
        faults.append(str(error))
    return Checked(
        trials=sum(trial.evidence is not None for trial in results.trials),
        right=right,
        faults=tuple(_printable(faults)),
        notes=(*_version_notes(versions), *_missing_trials(results)),
        signed_by=signer,
        results=results,
        results_sha256=hashlib.sha256(content).hexdigest(),
    )


def _printable(faults: Sequence[str]) -> Iterator[str]:
    """Yield the faults without control characters, since they contain file names that anyone can have chosen."""
    most = record_limits().faults
    for fault in faults[:most]:
        yield clean_line(fault, LONGEST_LINE)
    if len(faults) > most:
        yield f"{len(faults) - most} more faults are not listed"


def _seals(folder: RunFolder, faults: list[str]) -> tuple[SealAtStart, ...]:
    """Return the seal measurements of the run; if they cannot be read, add a fault."""
    try:
        return seals_of(folder)
    except EvidenceError as error:
        faults.append(str(error))
        return ()


def _read(folder: RunFolder) -> tuple[Results, bytes]:
    """Return the results and their bytes, read once so that the two cannot differ."""
    name = folder.results.name
    exists = folder.files.exists
    if not exists(name) and (exists(folder.plan.name) or exists(folder.evidence.name)):
        raise EvidenceError(f"{name} is missing: the run did not finish, or the file was removed")
    content = results_content(folder)
    document: object = None
    try:
        document = strict_json(content)
        return Results.model_validate_json(content), content
    except ValueError as error:
        raise EvidenceError(_unreadable(name, document, Results, error)) from error


def _unreadable(name: str, document: object, kind: type[BaseModel], error: ValueError) -> str:
    """Return why a document does not match its model: it is altered, or possibly of another version."""
    if isinstance(error, StrictJsonError):
        return f"{name} is altered: {error}"
    schema: str = kind.model_fields["schema_"].default
    fields = document if isinstance(document, dict) else {}
    version = fields.get("redline_version")
    if fields.get("schema") != schema or version != __version__:
        return (
            f"{name} is altered, or of a version that this redline {__version__} cannot judge: it has schema "
            f"{clean_line(fields.get('schema'), 80)} of redline {clean_line(version, 80)}; this version knows {schema}"
        )
    return f"{name} is altered: {one_line(error)}"


def _version_notes(versions: Iterable[str]) -> Iterator[str]:
    others = sorted(set(versions) - {__version__})
    if others:
        yield f"written by redline {', '.join(others)}; this is redline {__version__}, which uses the same schema"


def _missing_trials(results: Results) -> Iterator[str]:
    planned = sum(part.planned for part in results.parts) or results.plan.planned_trials
    if len(results.trials) < planned:
        yield f"{len(results.trials)} of {planned} planned trials are in the results"


def _results_faults(folder: RunFolder, results: Results, content: bytes) -> Iterator[str]:
    if not has_head(content, results.chain.head):
        yield f"{folder.results.name} is altered: its bytes do not match the head of its chain"


def _record_faults(folder: RunFolder, results: Results) -> Iterator[str]:
    """Yield the faults of the plan and the other records next to the results."""
    bound = results.chain.files
    for name, sha256 in bound.items():
        if fault := _file_fault(folder.files, name, sha256):
            yield fault
        elif name == folder.plan.name and not _is_plan_of(folder, results):
            yield f"{name} is not the plan of the results"
    try:
        records = folder.records()
    except OSError as error:
        yield f"the folder cannot be listed: {error.strerror}"
        return
    for path in records:
        if path.name not in bound:
            yield f"{path.name} is not a record of the results"


def _model_faults(folder: RunFolder, results: Results) -> Iterator[str]:
    try:
        if served_models(folder) != results.models:
            yield f"{folder.results.name} and {folder.models.name} name different models"
    except EvidenceError as error:
        yield str(error)


def _preflight_faults(folder: RunFolder, results: Results) -> Iterator[str]:
    try:
        kept = latest(preflights_of(folder))
    except EvidenceError as error:
        yield str(error)
        return
    if kept != results.preflight:
        yield f"{folder.results.name} and {folder.preflight.name} contain different preflights"


def _is_plan_of(folder: RunFolder, results: Results) -> bool:
    try:
        record = read_plan_record(folder)
    except RedlineError:
        return False
    return record is not None and record.sha256 == results.plan.sha256


def _bound_evidence(folder: RunFolder, name: str, trial: TrialResult) -> Evidence:
    """Return the evidence of a trial after checking its hash; the file is read once."""
    if not (name.startswith(f"{folder.evidence.name}/") and name.endswith(".json")):
        raise EvidenceError(f"{folder.results.name} names {name} as evidence, which is not in {folder.evidence.name}/")
    try:
        content = folder.files.read(name)
    except OSError as error:
        raise EvidenceError(_unread(name, error)) from error
    if hashlib.sha256(content).hexdigest() != trial.evidence_sha256:
        raise EvidenceError(_altered(name))
    return _as_evidence(name.rpartition("/")[2], content)


def _attachment_faults(files: Records, folder: str, evidence: Evidence) -> Iterator[str]:
    """Yield the faults of the attachments of evidence, in the folder of this name."""
    for attachment in evidence.attachments:
        if fault := _file_fault(files, f"{folder}/{attachment.name}", attachment.sha256):
            yield fault


def _file_fault(files: Records, name: str, sha256: str) -> str | None:
    """Return the fault of a file whose hash is known; None if there is none."""
    try:
        found = files.sha256(name)
    except OSError as error:
        return _unread(name, error)
    return None if found == sha256 else _altered(name)


def _unread(name: str, error: OSError) -> str:
    return f"{name} is {'altered' if isinstance(error, RecordError) else 'missing'}: {error.strerror}"


def _altered(name: str) -> str:
    return f"{name} is altered: its sha256 differs from the recorded one"


def _trial_faults(results: Results, trial: TrialResult, evidence: Evidence, verdict: Verdict) -> Iterator[str]:
    """Yield the differences between a trial's result and its evidence."""
    fixed = evidence.trial
    if fixed.plan_sha256 != results.plan.sha256:
        yield f"{trial.evidence} belongs to another plan"
    same = (fixed.scenario, fixed.factors, fixed.seed) == (trial.scenario, trial.factors, trial.seed)
    of_this_model = f"{trial.model} ".startswith(f"{evidence.model} ")  # a label can include the model's arguments
    if not (same and of_this_model and trial_id(fixed.id, trial.model) == trial.id):
        yield f"{trial.evidence} belongs to another trial than the results say"
    if verdict.outcome != trial.outcome:
        yield f"{trial.evidence} leads to {verdict.outcome}, and the results say {trial.outcome}"
        return
    differing = [name for name, value in as_judged(verdict, evidence).items() if getattr(trial, name) != value]
    if differing:
        yield f"{trial.evidence} leads to a verdict that differs from the results: {', '.join(differing)}"


def _judged(trial: TrialResult, evidence: Evidence, verdict: Verdict) -> JudgedTrial:
    return JudgedTrial(
        result=trial,
        arm=evidence.trial.arm,
        engine_replicated=verdict.engine_replicated,
        fudan2024=verdict.fudan2024,
        seal=seal_of(evidence),
    )


def _without_evidence(results: Results, trial: TrialResult) -> JudgedTrial:
    """Return a trial that ended before there was evidence; it is invalid and counts in the arm of its factors."""
    arms = (one.arm for one in results.conditions if (one.scenario, one.factors) == (trial.scenario, trial.factors))
    return JudgedTrial(result=trial, arm=next(arms, ""), engine_replicated=False, fudan2024=False, seal=None)


def _unknown_files(folder: RunFolder, known: set[str], unreadable: set[str]) -> Iterator[str]:
    """Yield the files in the evidence folder that no record names; evidence is at most two levels deep.

    Args:
        folder: Folder of the run.
        known: Names of evidence files and attachments.
        unreadable: Folders of attachments whose evidence cannot be read; their files are not reported.
    """
    of_no_trial = "belongs to no trial of the results"
    root = folder.evidence.name
    try:
        found = folder.files.names(root) if folder.files.exists(root) else []
        for name, is_folder in found:
            own = f"{root}/{name}"
            if not is_folder and own not in known:
                yield f"{own} {of_no_trial}"
            elif is_folder and own not in unreadable:
                for inner, _ in folder.files.names(own):
                    if f"{own}/{inner}" not in known:
                        yield f"{own}/{inner} {of_no_trial}"
    except OSError as error:
        yield f"{root} cannot be listed: {error.strerror}"
