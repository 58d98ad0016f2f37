"""Judges stored evidence again: no cell, no model, no Inspect log."""

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
from redline.run.extract import as_judged, reading_of, seal_of, trial_id
from redline.run.folder import RunFolder, read_plan_record, results_content
from redline.run.preflight import latest, preflights_of
from redline.run.seals import SealAtStart, seals_of
from redline.run.servers import served_models
from redline.run.signature import signed_by
from redline.verify.evidence import Evidence
from redline.verify.verdict import Verdict, judge

LONGEST_LINE = 400

Seen = Callable[[TrialResult, Evidence, Verdict], None]
"""Takes a trial with its unaltered evidence and the verdict that this leads to."""


@dataclass(frozen=True)
class Checked:
    """What came of judging the folder of a run again."""

    trials: int
    """Trials with evidence."""
    right: int
    """Of these, trials with unaltered evidence that leads to the verdict of the results."""
    faults: tuple[str, ...]
    """What is altered, missing, strange or other than the results say, each in a line with the file's name."""
    notes: tuple[str, ...]
    """What the reader should know beside, a line each."""
    signed_by: str | None
    """The public key whose signature the folder bears, in hex."""
    results: Results
    """The results that were held against the evidence."""
    results_sha256: str
    """SHA-256 of their bytes."""


def verify_file(path: Path) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict that an evidence file leads to, and what to know about it.

    Where the file lies in the folder of a run, its results say whether it is unaltered.

    Raises:
        EvidenceError: It cannot be read or judged, or it is altered.
    """
    path = path.absolute()
    if path.is_symlink():
        raise EvidenceError(f"{path.name} is a symbolic link: give the file that it leads to")
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
    """The evidence in a file.

    Raises:
        EvidenceError: There is none that this version can judge.
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


def verify_folder(root: Path, key: Ed25519PublicKey | None = None, seen: Seen | None = None) -> Checked:
    """Holds the records of a run against their chain, and every trial of it against its evidence.

    Args:
        root: The folder.
        key: Whose signature the folder must bear; none asks for no signature.
        seen: Is shown every trial whose evidence is unaltered, so that a reader needs no second look at the files.

    Raises:
        EvidenceError: The results cannot be read, so that nothing can be held against them.
        UsageError: It is not the folder of a run.
    """
    folder = RunFolder(root)
    results, content = _read(folder)
    faults = [*_results_faults(folder, results, content), *_record_faults(folder, results)]
    faults += _model_faults(folder, results)
    faults += _preflight_faults(folder, results)
    at_start = _seals(folder, faults)
    seals = {seal.sha256 for seal in at_start}
    judged: list[JudgedTrial] = []
    versions = {results.redline_version}
    known: set[str] = set()
    untold: set[str] = set()
    right = 0
    for trial in results.trials:
        if trial.evidence is None:
            if trial.outcome != "invalid":
                faults.append(f"{folder.results.name} says {trial.outcome} of {trial.id} and names no evidence")
            judged.append(_without_evidence(results, trial))
            continue
        known.add(trial.evidence)
        beside = trial.evidence.removesuffix(".json")
        try:
            evidence = _bound_evidence(folder, trial.evidence, trial)
        except EvidenceError as error:
            faults.append(str(error))
            untold.add(beside)  # what it named beside it cannot be told any more
            continue
        known |= {f"{beside}/{attachment.name}" for attachment in evidence.attachments}
        verdict = judge(evidence)
        versions.add(evidence.redline_version)
        found = [*_attachment_faults(folder.files, beside, evidence), *_trial_faults(results, trial, evidence, verdict)]
        if evidence.trial.seal_sha256 is not None and evidence.trial.seal_sha256 not in seals:
            found.append(f"{trial.evidence} names a seal that {folder.seals.name} does not hold")
        faults += found
        right += not found
        judged.append(_judged(trial, evidence, verdict))
        if seen is not None:
            seen(trial, evidence, verdict)
    faults += _strangers(folder, known, untold)
    again = assemble(results.plan, judged, at_start=[reading_of([seal.report]) for seal in at_start])
    if not faults and again.conditions != results.conditions:
        faults.append(f"{folder.results.name} says rates that its trials do not lead to")
    if not faults and again.decision != results.decision:
        faults.append(f"{folder.results.name} says another decision than its rates and plan lead to")
    if not faults and (again.seal.verified, again.seal.probes) != (results.seal.verified, results.seal.probes):
        faults.append(f"{folder.results.name} says another seal than {folder.seals.name} and its trials lead to")
    signer = None
    try:
        signer = signed_by(folder, results.chain.head, key)
    except EvidenceError as error:
        faults.append(str(error))
    return Checked(
        trials=sum(trial.evidence is not None for trial in results.trials),
        right=right,
        # They name files, and whoever made a file named it: nothing in them may be an order to a terminal.
        faults=tuple(_shown(faults)),
        notes=(*_version_notes(versions), *_missing_trials(results)),
        signed_by=signer,
        results=results,
        results_sha256=hashlib.sha256(content).hexdigest(),
    )


def _shown(faults: Sequence[str]) -> Iterator[str]:
    most = record_limits().faults
    for fault in faults[:most]:
        yield clean_line(fault, LONGEST_LINE)
    if len(faults) > most:
        yield f"{len(faults) - most} more faults are not listed"


def _seals(folder: RunFolder, faults: list[str]) -> tuple[SealAtStart, ...]:
    """What was measured at the starts of the run; that it cannot be read is added to the faults."""
    try:
        return seals_of(folder)
    except EvidenceError as error:
        faults.append(str(error))
        return ()


def _read(folder: RunFolder) -> tuple[Results, bytes]:
    """The results and their bytes, which are read once: nothing can change them in between."""
    name = folder.results.name
    exists = folder.files.exists
    if not exists(name) and (exists(folder.plan.name) or exists(folder.evidence.name)):
        raise EvidenceError(f"{name} is missing: the run did not come to its end, or the file was taken away")
    content = results_content(folder)
    document: object = None
    try:
        document = strict_json(content)
        return Results.model_validate_json(content), content
    except ValueError as error:
        raise EvidenceError(_unreadable(name, document, Results, error)) from error


def _unreadable(name: str, document: object, kind: type[BaseModel], error: ValueError) -> str:
    """Says of a document that does not fit its model whether it is one of another version."""
    if isinstance(error, StrictJsonError):
        return f"{name} is altered: {error}"
    schema: str = kind.model_fields["schema_"].default
    said = document if isinstance(document, dict) else {}
    version = said.get("redline_version")
    if said.get("schema") != schema or version != __version__:
        return (
            f"{name} is altered, or of a version that this redline {__version__} cannot judge: it says schema "
            f"{clean_line(said.get('schema'), 80)} and redline {clean_line(version, 80)}, and {schema} is known here"
        )
    return f"{name} is altered: {one_line(error)}"


def _version_notes(versions: Iterable[str]) -> Iterator[str]:
    others = sorted(set(versions) - {__version__})
    if others:
        yield f"written by redline {', '.join(others)}; this is {__version__}, which knows the same schema"


def _missing_trials(results: Results) -> Iterator[str]:
    planned = results.plan.plan.planned_trials
    if len(results.trials) < planned:
        yield f"{len(results.trials)} of {planned} planned trials are in the results"


def _results_faults(folder: RunFolder, results: Results, content: bytes) -> Iterator[str]:
    if not has_head(content, results.chain.head):
        yield f"{folder.results.name} is altered: its bytes do not lead to the head of its chain"


def _record_faults(folder: RunFolder, results: Results) -> Iterator[str]:
    """What is wrong with the plan and the other records beside the results."""
    bound = results.chain.files
    for name, sha256 in bound.items():
        if fault := _file_fault(folder.files, name, sha256):
            yield fault
        elif name == folder.plan.name and not _is_plan_of(folder, results):
            yield f"{name} is not the plan of the results"
    try:
        there = folder.records()
    except OSError as error:
        yield f"the folder cannot be listed: {error.strerror}"
        return
    for path in there:
        if path.name not in bound:
            yield f"{path.name} is no record of the results"


def _model_faults(folder: RunFolder, results: Results) -> Iterator[str]:
    try:
        if served_models(folder) != results.models:
            yield f"{folder.results.name} says other models than {folder.models.name} does"
    except EvidenceError as error:
        yield str(error)


def _preflight_faults(folder: RunFolder, results: Results) -> Iterator[str]:
    try:
        kept = latest(preflights_of(folder))
    except EvidenceError as error:
        yield str(error)
        return
    if kept != results.preflight:
        yield f"{folder.results.name} says another preflight than {folder.preflight.name}"


def _is_plan_of(folder: RunFolder, results: Results) -> bool:
    try:
        record = read_plan_record(folder)
    except RedlineError:
        return False
    return record is not None and record.sha256 == results.plan.sha256


def _bound_evidence(folder: RunFolder, name: str, trial: TrialResult) -> Evidence:
    """The evidence of a trial, if its bytes are those that the results name; it is read once."""
    if not (name.startswith(f"{folder.evidence.name}/") and name.endswith(".json")):
        raise EvidenceError(f"{folder.results.name} names {name} as evidence, which is no evidence file of the folder")
    try:
        content = folder.files.read(name)
    except OSError as error:
        raise EvidenceError(_unread(name, error)) from error
    if hashlib.sha256(content).hexdigest() != trial.evidence_sha256:
        raise EvidenceError(_altered(name))
    return _as_evidence(name.rpartition("/")[2], content)


def _attachment_faults(files: Records, beside: str, evidence: Evidence) -> Iterator[str]:
    """What is wrong with the files beside evidence, in the folder of this name."""
    for attachment in evidence.attachments:
        if fault := _file_fault(files, f"{beside}/{attachment.name}", attachment.sha256):
            yield fault


def _file_fault(files: Records, name: str, sha256: str) -> str | None:
    """What is wrong with a file whose hash is known."""
    try:
        found = files.sha256(name)
    except OSError as error:
        return _unread(name, error)
    return None if found == sha256 else _altered(name)


def _unread(name: str, error: OSError) -> str:
    return f"{name} is {'altered' if isinstance(error, RecordError) else 'missing'}: {error.strerror}"


def _altered(name: str) -> str:
    return f"{name} is altered: its sha256 differs from the one that was noted"


def _trial_faults(results: Results, trial: TrialResult, evidence: Evidence, verdict: Verdict) -> Iterator[str]:
    """Where the results say other of a trial than its evidence does."""
    fixed = evidence.trial
    if fixed.plan_sha256 != results.plan.sha256:
        yield f"{trial.evidence} is of another plan"
    same = (fixed.scenario, fixed.factors, fixed.seed) == (trial.scenario, trial.factors, trial.seed)
    of_this_model = f"{trial.model} ".startswith(f"{evidence.model} ")  # a label may name the model's arguments, too
    if not (same and of_this_model and trial_id(fixed.id, trial.model) == trial.id):
        yield f"{trial.evidence} is of another trial than the results say"
    if verdict.outcome != trial.outcome:
        yield f"{trial.evidence} leads to {verdict.outcome}, and the results say {trial.outcome}"
        return
    differing = [name for name, value in as_judged(verdict, evidence).items() if getattr(trial, name) != value]
    if differing:
        yield f"{trial.evidence} leads to another verdict than the results say: {', '.join(differing)}"


def _judged(trial: TrialResult, evidence: Evidence, verdict: Verdict) -> JudgedTrial:
    return JudgedTrial(
        result=trial,
        arm=evidence.trial.arm,
        engine_replicated=verdict.engine_replicated,
        fudan2024=verdict.fudan2024,
        seal=seal_of(evidence),
    )


def _without_evidence(results: Results, trial: TrialResult) -> JudgedTrial:
    """A trial that ended before there was any evidence: it is invalid, and counts in the arm of its factors."""
    arms = (one.arm for one in results.conditions if (one.scenario, one.factors) == (trial.scenario, trial.factors))
    return JudgedTrial(result=trial, arm=next(arms, ""), engine_replicated=False, fudan2024=False, seal=None)


def _strangers(folder: RunFolder, known: set[str], untold: set[str]) -> Iterator[str]:
    """Whatever is among the evidence that nothing names; nothing is deeper than the folder of a trial."""
    of_no_trial = "belongs to no trial of the results"
    root = folder.evidence.name
    try:
        found = folder.files.names(root) if folder.files.exists(root) else []
        for name, is_folder in found:
            own = f"{root}/{name}"
            if not is_folder and own not in known:
                yield f"{own} {of_no_trial}"
            elif is_folder and own not in untold:
                for inner, _ in folder.files.names(own):
                    if f"{own}/{inner}" not in known:
                        yield f"{own}/{inner} {of_no_trial}"
    except OSError as error:
        yield f"{root} cannot be listed: {error.strerror}"
