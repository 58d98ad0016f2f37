"""Merge the parts of a run into one folder, whose results and verification are those of an undivided run."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from redline._errors import EvidenceError, ExitCode, UsageError
from redline.plan import Plan, PlanRecord, completed
from redline.results import Calibration, JudgedTrial, PartResult, Results, summarise_seal
from redline.run.aborter import AlarmNote
from redline.run.arms import arm_task
from redline.run.execute import RunOutcome
from redline.run.extract import CollectedTrials, collect_trials
from redline.run.folder import RunFolder, read_plan_record
from redline.run.incident import write_incident
from redline.run.journal import append, entries
from redline.run.judgement import reading_of
from redline.run.lock import exclusive_lock
from redline.run.parts.attempts import attempts_at, copy_file, copy_log, first_attempt
from redline.run.parts.part import PartRecord, read_part_record
from redline.run.parts.records import note_merged
from redline.run.preflight import preflights_of
from redline.run.prompts import keep_prompts
from redline.run.recheck import verify_folder
from redline.run.remarks import exit_code_of, remarks
from redline.run.scheduler import run_order
from redline.run.seals import note_seal, seals_of
from redline.run.servers import record_served, served_models
from redline.run.stored_logs import log_names
from redline.run.trial_ids import trial_id
from redline.run.write import signed, write_results

MAX_NAMED = 8
"""Maximum number of parts that a message names."""


@dataclass(frozen=True)
class Attempt:
    """The attempt at a part that counts."""

    folder: RunFolder
    """Its folder."""
    record: PartRecord
    """Its record."""

    @property
    def number(self) -> int:
        """Number of the part."""
        return self.record.part.number

    def __str__(self) -> str:
        """Return the part and the folder, for messages."""
        return f"part {self.record.part} in {self.folder.root}"


@dataclass(frozen=True)
class MergeOptions:
    """Options of a merge."""

    key: Ed25519PrivateKey | None = None
    """Key that signs the results; None leaves them unsigned."""
    partial: bool = False
    """Whether to merge although parts or trials are missing."""
    stopped: bool = False
    """Whether the user stopped the run."""
    given_up: str | None = None
    """Why the run was given up; None if it was not."""


def find_attempts(paths: Iterable[Path]) -> tuple[Attempt, ...]:
    """Return the attempts that count, by the number of their part: of each part, the attempt with the highest number.

    Args:
        paths: Folders of parts, or folders that contain them directly or in `parts`.

    Raises:
        UsageError: A folder contains no part, parts do not belong together, or a part is there twice.
    """
    found: dict[Path, Attempt] = {}
    for path in paths:
        for one, record in _parts_at(path):
            first = first_attempt(one, record)
            for folder, its in (*attempts_at(first), (one, record)):
                found.setdefault(folder.resolve(), Attempt(RunFolder(folder), its))
    counted: dict[int, Attempt] = {}
    for attempt in found.values():
        _refuse_foreign(attempt, next(iter(found.values())))
        other = counted.get(attempt.number)
        if other is None or attempt.record.attempt > other.record.attempt:
            counted[attempt.number] = attempt
        elif attempt.record.attempt == other.record.attempt:
            raise UsageError(
                f"{attempt.folder.root} and {other.folder.root} are both attempt {attempt.record.attempt} at part "
                f"{attempt.record.part}: merge only one of them"
            )
    return tuple(counted[number] for number in sorted(counted))


def _parts_at(path: Path) -> Iterator[tuple[Path, PartRecord]]:
    record = read_part_record(path)
    if record is not None:
        yield path, record
        return
    inner = path / "parts" if (path / "parts").is_dir() else path
    found = False
    for child in sorted(inner.iterdir()) if inner.is_dir() else ():
        if child.is_dir() and (record := read_part_record(child)) is not None:
            found = True
            yield child, record
    if not found:
        raise UsageError(f"{path} contains no part of a run; `redline run PLAN --part K/N --out FOLDER` makes one")


def _refuse_foreign(attempt: Attempt, first: Attempt) -> None:
    if attempt.record.plan_sha256 != first.record.plan_sha256:
        raise UsageError(f"{attempt} and {first} belong to different plans")
    if attempt.record.part.count != first.record.part.count:
        raise UsageError(f"{attempt} and {first} do not belong together: their plan was split differently")
    plan = read_plan_record(attempt.folder)
    if plan is None or plan.sha256 != attempt.record.plan_sha256:
        raise EvidenceError(f"{attempt} is altered: its plan is missing, or is not the plan of the part")


def plan_of(attempts: Sequence[Attempt]) -> Plan:
    """Return the plan of the parts.

    Raises:
        EvidenceError: It is missing.
    """
    record = read_plan_record(attempts[0].folder)
    if record is None:
        raise EvidenceError(f"{attempts[0]} is altered: its plan is missing")
    return completed(record.plan)


def merge(paths: Sequence[Path], out: Path, options: MergeOptions | None = None) -> RunOutcome:
    """Merge parts into a folder of their own and write the results.

    Args:
        paths: Folders of parts, or folders that contain them.
        out: Folder of the merged run; an earlier merge of the same plan in it is replaced.
        options: Options of the merge.

    Raises:
        UsageError: Parts are missing, unfinished, in use, present twice, or of another plan.
        EvidenceError: A part is altered.
    """
    attempts = find_attempts(paths)
    plan = plan_of(attempts)
    folder = RunFolder(out)
    with folder.claimed(plan, for_merge=True) as record:
        return merge_into(folder, record, attempts, options or MergeOptions())


def merge_into(folder: RunFolder, plan: PlanRecord, attempts: Sequence[Attempt], options: MergeOptions) -> RunOutcome:
    """Merge parts into a folder that the caller has claimed, and write the results.

    Raises:
        UsageError: Parts are missing, unfinished or in use.
        EvidenceError: A part is altered.
    """
    owners = _owners(completed(plan.plan), attempts)
    if not options.partial:
        _refuse_missing(attempts)
    with ExitStack() as locks:
        for attempt in attempts:
            locks.enter_context(exclusive_lock(attempt.folder.root, attempt.folder.plan))
        finished = {attempt.number: _verified(attempt) for attempt in attempts}
        if not options.partial:
            _refuse_unfinished(attempts, finished, owners)
        _clear(folder)
        note_merged(folder, [attempt.record for attempt in attempts])
        logs = _copy(attempts, folder)
        found = collect_trials(folder, plan.plan)
        found.given_up = options.given_up
        _compare(attempts, finished, found, owners, logs)
        parts = tuple(_result_of(attempt, finished[attempt.number], found, owners) for attempt in attempts)
    keep_prompts(folder, found.prompts)
    results = write_results(
        folder, plan, found, _common_calibration(parts), parts=lambda _: parts, noted=tuple(_noted(attempts, folder))
    )
    fault = write_incident(folder, results)
    unsigned = (*signed(folder, results, options.key), *(() if fault is None else (fault,)))
    planned = plan.planned_trials
    unproved = [part for part in parts if not part.trials and not part.seal.verified and part.seal.probes.failed]
    # Trials that are missing for another reason than the user's count as interrupted: the same command runs them.
    excused = bool(unproved or found.alarms or options.given_up)
    stopped = options.stopped or (len(results.trials) < planned and not excused)
    code = exit_code_of(planned, results, found, stopped=stopped)
    if unproved and code in {ExitCode.OK, ExitCode.NOTHING_SCORED, ExitCode.EVIDENCE}:
        code = ExitCode.SEAL
    return RunOutcome(
        results=results,
        exit_code=code,
        remarks=(
            *(
                f"part {one.number}/{one.count} on {one.node}: the seal was not proved; nothing was run"
                for one in unproved
            ),
            *(() if options.given_up is None else (options.given_up,)),
            *remarks(plan.plan, planned, results, found),
            *unsigned,
        ),
        versions=frozenset(found.versions),
        ended=found.ended,
    )


def _owners(plan: Plan, attempts: Sequence[Attempt]) -> dict[str, int]:
    """Return the number of the part of every trial of the plan."""
    names = [
        [trial_id(str(sample.id), plan.label_of(spec.name, spec.args)) for sample in arm_task(arm, plan).dataset]
        for arm in plan.arms
        for spec in plan.models_of(arm)
    ]
    order = run_order(names, plan.seed)
    part = attempts[0].record.part
    return {
        name: number
        for number in range(1, part.count + 1)
        for name in part.model_copy(update={"number": number}).of(order)
    }


def _refuse_missing(attempts: Sequence[Attempt]) -> None:
    count = attempts[0].record.part.count
    present = {attempt.number for attempt in attempts}
    missing = [f"{number}/{count}" for number in range(1, count + 1) if number not in present]
    if missing:
        raise UsageError(f"parts are missing: {_named(missing)}; run them, or add --partial to merge the others")


def _refuse_unfinished(
    attempts: Sequence[Attempt], finished: dict[int, Results | None], owners: dict[str, int]
) -> None:
    for attempt in attempts:
        results = finished[attempt.number]
        left = {name for name, number in owners.items() if number == attempt.number}
        planned = len(left)
        left -= {trial.id for trial in results.trials} if results is not None else set()
        left -= {note.trial for note in entries(attempt.folder.alarms, AlarmNote)}
        if results is None or left:
            counted = "it has no results" if results is None else f"{len(left)} of {planned} trials have not run"
            raise UsageError(
                f"{attempt} is unfinished ({counted}): run the same command with --part {attempt.record.part} "
                "again, or add --partial"
            )


def _named(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _verified(attempt: Attempt) -> Results | None:
    """Return the verified results of a part; None if its last start did not end and so wrote none.

    Raises:
        EvidenceError: A record of the part is altered or missing.
    """
    folder = attempt.folder
    if not folder.files.exists(folder.results.name):
        return None
    checked = verify_folder(folder.root)
    if checked.faults:
        raise EvidenceError(f"{attempt}: {checked.faults[0]}")
    if checked.results.plan.sha256 != attempt.record.plan_sha256:
        raise EvidenceError(f"{attempt}: its results belong to another plan")
    return checked.results


def _clear(folder: RunFolder) -> None:
    """Remove an earlier merge; only a folder that was claimed for a merge gets here."""
    for path in (*folder.records(), folder.results):
        if path != folder.plan:
            path.unlink(missing_ok=True)
    for name, is_folder in (*_inner(folder, folder.logs), *_inner(folder, folder.evidence)):
        path = folder.root / name
        if is_folder:
            shutil.rmtree(path)
        else:
            path.unlink()


def _inner(folder: RunFolder, inner: Path) -> Iterator[tuple[str, bool]]:
    for name, is_folder in folder.files.names(inner.name):
        yield f"{inner.name}/{name}", is_folder


def _copy(attempts: Sequence[Attempt], target: RunFolder) -> dict[str, int]:
    """Copy logs and records of the parts; return the part of each log."""
    logs: dict[str, int] = {}
    seals: set[str] = set()
    for attempt in attempts:
        source = attempt.folder
        for name in log_names(source.files, source.logs.name):
            copy_log(source, name, target)
            logs[name] = attempt.number
        for seal in seals_of(source):
            if seal.sha256 not in seals:
                seals.add(seal.sha256)
                note_seal(target, seal)
        for note in entries(source.alarms, AlarmNote):
            append(target.alarms, note)
        for tried in preflights_of(source):
            append(target.preflight, tried)
        for served in served_models(source):
            record_served(target, served)
        for path in source.records():
            if path.name.startswith("server-"):
                copy_file(
                    source, path.name, target.root / f"server-{attempt.number}-{path.name.removeprefix('server-')}"
                )
    return logs


def _compare(
    attempts: Sequence[Attempt],
    finished: dict[int, Results | None],
    found: CollectedTrials,
    owners: dict[str, int],
    logs: dict[str, int],
) -> None:
    """Compare the trials in the logs with the parts that they belong to, and with the verified results of these parts.

    Raises:
        EvidenceError: A log contains a trial of another part, or differs from the results of its part.
    """
    of_number = {attempt.number: attempt for attempt in attempts}
    for name, judged in found.trials.items():
        number = logs[judged.result.log or ""]
        if owners.get(name) != number:
            raise EvidenceError(
                f"{of_number[number]}: {judged.result.log} contains the trial {name}, which is not in the part"
            )
    for attempt in attempts:
        results = finished[attempt.number]
        own = {name for name, number in owners.items() if number == attempt.number}
        for trial in () if results is None else results.trials:
            logged = found.trials.get(trial.id)
            if trial.id not in own:
                raise EvidenceError(f"{attempt}: its results contain the trial {trial.id}, which is not in the part")
            if logged is None or logged.result != trial:
                raise EvidenceError(f"{attempt}: the log of {trial.id} is altered or missing")
        if results is not None and len(results.trials) != len(own & found.trials.keys()):
            raise EvidenceError(f"{attempt}: its logs contain a trial that its results do not")


def _result_of(attempt: Attempt, results: Results | None, found: CollectedTrials, owners: dict[str, int]) -> PartResult:
    """Return the entry of a part in the merged results."""
    if results is not None:
        return results.parts[0].model_copy(update={"head": results.chain.head})
    record = attempt.record
    own = {name for name, number in owners.items() if number == attempt.number}
    trials: list[JudgedTrial] = [trial for name, trial in found.trials.items() if name in own]
    at_start = [reading_of([seal.report]) for seal in seals_of(attempt.folder)]
    around = [trial.seal for trial in trials if trial.seal is not None]
    return PartResult(
        number=record.part.number,
        count=record.part.count,
        attempt=record.attempt,
        node=record.node,
        planned=len(own),
        trials=len(trials),
        seal=summarise_seal(around, at_start, nothing_ran=not trials),
        calibration=None,
        head=None,
    )


def _common_calibration(parts: Sequence[PartResult]) -> Calibration | None:
    """Return the least accurate calibration of the parts; None unless every part has one."""
    known = [part.calibration for part in parts if part.calibration is not None]
    if len(known) < len(parts):
        return None
    return min(known, key=lambda one: one.right / max(1, one.trials), default=None)


def _noted(attempts: Sequence[Attempt], folder: RunFolder) -> Iterator[str]:
    """Yield the deviations that only the comparison of parts shows."""
    for attempt in attempts:
        record = attempt.record
        if record.attempt > 1:
            yield f"part {record.part} took {record.attempt} attempts, the last one on {record.node}"
    calls: dict[tuple[str, str], set[str]] = {}
    for tried in preflights_of(folder):
        if tried.role is None and tried.tool_calls is not None:
            calls.setdefault((tried.model, tried.asked or ""), set()).add(tried.tool_calls)
    for (model, _), ways in calls.items():
        if len(ways) > 1:
            yield f"parts passed the tool calls of {model} in different ways: {', '.join(sorted(ways))}"
