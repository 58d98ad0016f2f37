"""Format figures as text, identically for the terminal and the page."""

from importlib.resources import files

from redline.report._data import phrases
from redline.report.published import Published
from redline.results import Calibration, Condition
from redline.stats import Count, Rate, clopper_pearson, percent, percent_ends

PUBLISHED_STUDY = "Pan 2024"

INTERVAL_NAME = "exact (Clopper-Pearson) 95% interval"
"""The interval of every rate in a report; its coverage is never below 95%."""

TOO_FEW = "too few trials to say"


def as_percent(part: float) -> str:
    """Format a fraction as a percentage, such as `24%`."""
    return f"{100 * part:.0f}%"


def are_too_few(n: int) -> bool:
    """Return whether a number of trials is too small for a statement about the rate."""
    return n < phrases().min_trials


def interval_words(k: int, n: int) -> str:
    """Format the exact interval of a count, such as `95% CI 0%–31%`."""
    low, high = percent_ends(clopper_pearson(k, n))
    return f"95% CI {low}%–{high}%"


def count_words(k: int, n: int) -> str:
    """Format a count with its exact interval, such as `9/10 (55–100%)`; without it if the trials are too few."""
    return f"{k}/{n}: {TOO_FEW}" if are_too_few(n) else f"{k}/{n} ({percent(clopper_pearson(k, n))})"


def rate_words(condition: Condition) -> str:
    """Format the rate as a percentage; words instead if the trials are too few for a statement."""
    rate = condition.rate
    return TOO_FEW if rate.estimate is None or are_too_few(rate.n) else as_percent(rate.estimate)


def capital(text: str) -> str:
    """Return the text with its first letter capitalised, unless it starts with the name of the program."""
    return text if text.startswith("redline") else text[:1].upper() + text[1:]


def condition_words(condition: Condition) -> str:
    """Return scenario and arm."""
    return ", ".join(filter(None, (condition.scenario, condition.arm)))


def outcome_words(condition: Condition) -> str:
    """Return the count of each outcome that occurred; for invalid trials with cause and milestones reached."""
    return ", ".join(
        f"{count} {outcome}{invalid_words(condition) if outcome == 'invalid' else ''}"
        for outcome, count in condition.outcomes.items()
        if count
    )


def invalid_words(condition: Condition) -> str:
    """Return causes of invalid trials and milestones reached, such as ` (2 by the agent; 1 reached answers)`."""
    invalid = condition.invalid
    causes = (("agent", invalid.by_agent), ("harness", invalid.by_harness))
    parts = [f"{count} by the {cause}" for cause, count in causes if count]
    parts += [f"{count} reached {milestone}" for milestone, count in invalid.reached.items()]
    return f" ({'; '.join(parts)})" if parts else ""


def rate_notes(condition: Condition) -> str:
    """Return the notes on a rate: excluded trials, failed model calls, trials that ended at a limit, false claims."""
    parts = []
    if unexposed := condition.trials - condition.exposed:
        parts.append(f"{unexposed} unexposed")
    if condition.outcomes.get("invalid"):
        parts.append(f"with invalid {percent(condition.rate.bounds_with_invalid)}")
    if calls := call_words(condition):
        parts.append(f"model calls: {calls}")
    for count, what in ended_at_limit(condition):
        if count.k:
            parts.append(f"{count.k}/{count.n} ended by {what}")
    if condition.false_claims:
        parts.append(f"{condition.false_claims} false claims")
    return ", ".join(parts)


def call_words(condition: Condition) -> str:
    """Return the number of problems by kind in calls of the model under test; empty if there were none."""
    side = condition.model_side
    counts = {
        "retries": side.retried,
        "failed": side.failed,
        "unparsed": side.unparsed,
        "truncated": side.truncated,
    }
    found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"{found} of {side.answered + side.failed}" if found else ""


def ended_at_limit(condition: Condition) -> tuple[tuple[Count, str], ...]:
    """Return the number of valid trials that ended at a limit, by limit."""
    side = condition.model_side
    return (
        (side.ended_by_time, "time limit"),
        (side.ended_by_length, "output length"),
        (side.ended_by_context, "context length"),
    )


def published_line(published: tuple[Published, ...]) -> str:
    """Return the published rates for the same question, with intervals that we computed."""
    rates = ", ".join(published_words(row) for row in published if row.study == PUBLISHED_STUDY)
    return f"published: {rates}; different set-up"


def published_words(row: Published) -> str:
    """Return one published count with its interval."""
    name = row.model.removesuffix("-Instruct")
    return f"{name} {count_words(row.successes, row.trials)}"


def limits() -> tuple[str, ...]:
    """Return what the results do and do not show."""
    return tuple(files("redline.report").joinpath("limits.txt").read_text(encoding="utf-8").splitlines())


def calibration_line(calibration: Calibration | None, runtime: str | None) -> str:
    """Return the verifier's error rate in one line."""
    if calibration is None:
        return f"verifier: not calibrated on this host. Run `redline calibrate --runtime {runtime or 'auto'}`."
    return (
        f"verifier: {calibration.right} of {calibration.trials} control trials judged correctly; replicated: "
        f"sensitivity {exact_words(calibration.sensitivity)}, specificity {exact_words(calibration.specificity)}; "
        f"{calibration_setup(calibration)}."
    )


def calibration_lines(calibration: Calibration) -> tuple[str, ...]:
    """Return the verifier's error rate, one figure per line."""
    agreement, invalid = calibration.milestone_agreement, calibration.invalid
    return (
        f"judged correctly: {calibration.right} of {calibration.trials} trials of {calibration.controls} controls",
        f"replicated, sensitivity: {exact_words(calibration.sensitivity)}",
        f"replicated, specificity: {exact_words(calibration.specificity)}",
        f"milestones judged correctly: {agreement.k} of {agreement.n}",
        f"invalid: {invalid.k} of {invalid.n} trials that can be judged",
        calibration_setup(calibration),
    )


def calibration_setup(calibration: Calibration) -> str:
    """Return version, runtime, hold and date of the calibration."""
    return (
        f"redline {calibration.redline_version} on {calibration.runtime}, hold {calibration.hold:g} s, "
        f"{calibration.date:%Y-%m-%d}"
    )


def exact_words(rate: Rate) -> str:
    """Return a rate with its exact interval, and with its bounds if there are invalid trials.

    If the trials are too few for a statement, the words say so instead.
    """
    if are_too_few(rate.n):
        return f"{rate.k}/{rate.n}: {TOO_FEW}"
    words = f"{rate.k}/{rate.n} (exact {percent(rate.clopper_pearson95)}"
    bounds = rate.bounds_with_invalid
    return f"{words}, with invalid {percent(bounds)})" if bounds[0] < bounds[1] else f"{words})"
