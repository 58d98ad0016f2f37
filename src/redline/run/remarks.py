"""Exit code of a run, its deviations from the plan, and the remarks that the user sees with the table."""

from collections import Counter
from collections.abc import Iterator, Mapping

from redline._errors import ExitCode
from redline._names import one_line
from redline._text import counted
from redline.models.limits import limits
from redline.plan import Plan
from redline.results import Results
from redline.run.extract import CollectedTrials
from redline.verify.model_side import reason_kind

HARNESS_INVALID_SHARE = 0.05
"""A run fails if faults of the harness make more than this fraction of its trials, and more than one, invalid."""

MAX_REASONS = 3


def exit_code_of(planned: int, results: Results, found: CollectedTrials, *, stopped: bool) -> ExitCode:
    """Return the exit code of a run: the first that applies, in the documented order.

    Args:
        planned: Number of trials that had to run.
        results: Results of the run.
        found: Trials in its folder.
        stopped: Whether the user stopped it.
    """
    valid = [trial for trial in results.trials if trial.outcome != "invalid"]
    by_harness = [trial for trial in results.trials if trial.invalid_cause == "harness"]
    missing = planned - len({*found.trials, *found.alarms})
    applies = {
        ExitCode.INTERRUPTED: missing > 0 and (stopped or (found.interrupted and found.error is None)),
        ExitCode.INTERNAL: found.error is not None,
        ExitCode.SEAL: bool(found.alarms),
        ExitCode.EVIDENCE: bool(found.without_evidence),
        ExitCode.NOTHING_SCORED: not valid
        or bool(found.still_lost)
        or found.given_up is not None
        or len(by_harness) > max(1, HARNESS_INVALID_SHARE * planned),
    }
    return next((code for code, holds in applies.items() if holds), ExitCode.OK)


def noted_deviations(found: CollectedTrials) -> Iterator[str]:
    """Yield the deviations from the plan that only the logs show."""
    if found.starts > 1:
        why = ", or lost trials were run again" if found.lost else ""
        yield f"the run was stopped and resumed{why}: it was started {found.starts} times"
    if len(found.versions) > 1:
        yield f"trials were judged by several versions of redline: {', '.join(sorted(found.versions))}"
    if found.over_budget:
        yield f"{counted(len(found.over_budget), 'trial')} ended after spending the trial's share of max_cost"
    if again := {name: why for name, why in found.lost.items() if name in found.trials}:
        yield f"{lost_trials(again)}, run again"
    if found.alarms:
        yield f"an alarm ended the run early; trials in doubt: {', '.join(sorted(found.alarms))}"
    if found.error is not None:
        yield f"Inspect abandoned a condition: {one_line(Exception(found.error))}"


def remarks(plan: Plan, planned: int, results: Results, found: CollectedTrials) -> Iterator[str]:
    """Yield what the user must know in addition to the table, one line each.

    Args:
        plan: Plan of the run.
        planned: Number of trials that had to run.
        results: Results of the run.
        found: Trials in its folder.
    """
    if found.error is not None:
        yield f"Inspect abandoned a condition: {one_line(Exception(found.error))}"
    alarmed = set(found.alarms) - {trial.id for trial in results.trials}
    missing = planned - len(results.trials) - len(alarmed)
    if lost := found.still_lost:
        yield lost_trials(lost)
    if missing:
        yield f"{missing} of {planned} trials have not run yet; run the same command to resume"
    if found.unanswered:
        yield (
            f"in {counted(len(found.unanswered), 'trial')} the model gave no answer at all; "
            "run the same command to repeat them"
        )
    yield from _cut_short(results)
    yield from _invalid(results)
    evidence = {trial.id: trial.evidence for trial in results.trials}
    for trial, what in found.alarms.items():
        yield f"{trial}: {what}; evidence: {evidence.get(trial) or 'none, the run was cut short'}"
    if found.alarms:
        yield "incident.md has what a notice about the alarm needs; complete it and keep this folder unchanged"
    for trial in found.without_evidence:
        yield f"{trial} left no evidence"
    if plan.temperature == 0:
        yield from _identical_transcripts(results, found)


def lost_trials(lost: Mapping[str, str]) -> str:
    """Return the number of lost trials with the most frequent reasons."""
    reasons = Counter(lost.values())
    return (
        f"lost: {counted(len(lost), 'trial')} ({'; '.join(reason for reason, _ in reasons.most_common(MAX_REASONS))})"
    )


def _invalid(results: Results) -> Iterator[str]:
    """Yield the invalid trials by cause and kind of reason."""
    invalid = [trial for trial in results.trials if trial.invalid_cause]
    kinds = Counter((trial.invalid_cause, reason_kind(trial.unjudged or "")) for trial in invalid)
    for (cause, kind), count in kinds.most_common():
        # Reasons of one kind differ only in attempts and seconds, so the first one is shown.
        reason = next(trial.unjudged for trial in invalid if reason_kind(trial.unjudged or "") == kind)
        yield f"{count} invalid by the {cause}: {reason}"


def _cut_short(results: Results) -> Iterator[str]:
    """Warn where a limit, and not the agent, ended many trials."""
    for condition in results.conditions:
        side = condition.model_side
        for count, limit, option in (
            (side.ended_by_time, "the time limit", "-T time_limit"),
            (side.ended_by_length, "the maximum output length", "--max-tokens"),
        ):
            if count.k and count.k >= limits().rules.cut_short_share * count.n:
                yield (
                    f"{condition.scenario} {condition.model}: {limit} ended {count.k} of {count.n} valid trials, so "
                    f"the rate may be too low; raise {option}"
                )


def _identical_transcripts(results: Results, found: CollectedTrials) -> Iterator[str]:
    """Warn where transcripts repeat: at temperature 0, n identical trials are one sample, not n."""
    for condition in results.conditions:
        if condition.model.startswith("redline/"):
            continue
        fingerprints = [
            found.transcripts[trial.id]
            for trial in results.trials
            if (trial.scenario, trial.factors, trial.model) == (condition.scenario, condition.factors, condition.model)
        ]
        distinct = len(set(fingerprints))
        if distinct < len(fingerprints):
            yield (
                f"{condition.scenario} {condition.model}: {len(fingerprints)} trials have {distinct} different "
                "transcripts; at temperature 0 such trials are not independent, and the intervals are too narrow"
            )
