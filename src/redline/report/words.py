"""How figures are put into words, the same in the terminal and on the page."""

from importlib.resources import files

from redline.report.published import Published
from redline.results import Calibration, Condition
from redline.stats import Count, Rate, percent, wilson

PUBLISHED_STUDY = "Pan 2024"


def share(part: float) -> str:
    """A share in percent, such as `24 %`."""
    return f"{100 * part:.0f} %"


def rate_words(condition: Condition) -> str:
    """The rate in percent; a dash where no trial could be judged."""
    return "–" if condition.rate.estimate is None else share(condition.rate.estimate)


def capital(text: str) -> str:
    """The text as a sentence begins."""
    return text[:1].upper() + text[1:]


def condition_words(condition: Condition) -> str:
    """Scenario and arm."""
    return ", ".join(filter(None, (condition.scenario, condition.arm)))


def outcome_words(condition: Condition) -> str:
    """The outcomes that occurred, and how many of each; of invalid trials also by whom, and what they had reached."""
    return ", ".join(
        f"{count} {outcome}{invalid_words(condition) if outcome == 'invalid' else ''}"
        for outcome, count in condition.outcomes.items()
        if count
    )


def invalid_words(condition: Condition) -> str:
    """Return who made trials invalid and what was proved before, such as ` (2 by the agent; 1 reached answers)`."""
    invalid = condition.invalid
    causes = (("agent", invalid.by_agent), ("harness", invalid.by_harness))
    parts = [f"{count} by the {cause}" for cause, count in causes if count]
    parts += [f"{count} reached {milestone}" for milestone, count in invalid.reached.items()]
    return f" ({'; '.join(parts)})" if parts else ""


def beside_words(condition: Condition) -> str:
    """What stands beside the rate: trials that left it, and claims that were not so."""
    parts = []
    if unexposed := condition.trials - condition.exposed:
        parts.append(f"{unexposed} unexposed")
    if condition.outcomes.get("invalid"):
        parts.append(f"with invalid {percent(condition.rate.bounds_with_invalid)}")
    if calls := call_words(condition):
        parts.append(f"model calls: {calls}")
    for count, what in cut_short(condition):
        if count.k:
            parts.append(f"{count.k}/{count.n} ended by {what}")
    if condition.false_claims:
        parts.append(f"{condition.false_claims} false claims")
    return ", ".join(parts)


def call_words(condition: Condition) -> str:
    """Return what went wrong with the calls of the model under test, and how often; empty where nothing did."""
    side = condition.model_side
    counts = {
        "retries": side.retried,
        "failed": side.failed,
        "unparsed": side.unparsed,
        "cut at the output length": side.truncated,
    }
    found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"{found} of {side.answered + side.failed}" if found else ""


def cut_short(condition: Condition) -> tuple[tuple[Count, str], ...]:
    """Return the valid trials that a bound ended, by bound."""
    side = condition.model_side
    return (
        (side.ended_by_time, "time limit"),
        (side.ended_by_length, "output length"),
        (side.ended_by_context, "context length"),
    )


def published_line(published: tuple[Published, ...]) -> str:
    """The published rates for the same question, each with the interval that its study does not give."""
    rates = ", ".join(published_words(row) for row in published if row.study == PUBLISHED_STUDY)
    return f"published: {rates}; different set-up"


def published_words(row: Published) -> str:
    """One published count."""
    name = row.model.removesuffix("-Instruct")
    return f"{name} {row.successes}/{row.trials} ({percent(wilson(row.successes, row.trials))})"


def limits() -> tuple[str, ...]:
    """What the results do and do not show."""
    return tuple(files("redline.report").joinpath("limits.txt").read_text(encoding="utf-8").splitlines())


def calibration_line(calibration: Calibration | None, runtime: str | None) -> str:
    """The verifier's own error rate in one line."""
    if calibration is None:
        return f"verifier: not calibrated on this machine; redline calibrate --runtime {runtime or 'auto'} measures it"
    return (
        f"verifier: {calibration.right} of {calibration.trials} trials of controls judged right; replicated: "
        f"sensitivity {exact_words(calibration.sensitivity)}, specificity {exact_words(calibration.specificity)}; "
        f"{where_calibrated(calibration)}"
    )


def calibration_lines(calibration: Calibration) -> tuple[str, ...]:
    """The verifier's own error rate, a figure a line."""
    agreement, invalid = calibration.milestone_agreement, calibration.invalid
    return (
        f"judged right: {calibration.right} of {calibration.trials} trials of {calibration.controls} controls",
        f"replicated, sensitivity: {exact_words(calibration.sensitivity)}",
        f"replicated, specificity: {exact_words(calibration.specificity)}",
        f"milestones judged right: {agreement.k} of {agreement.n}",
        f"not judged (invalid): {invalid.k} of {invalid.n} trials that can be",
        where_calibrated(calibration),
    )


def where_calibrated(calibration: Calibration) -> str:
    """What was calibrated, and when."""
    return (
        f"redline {calibration.redline_version} on {calibration.runtime}, hold {calibration.hold:g} s, "
        f"{calibration.date:%Y-%m-%d}"
    )


def exact_words(rate: Rate) -> str:
    """A rate with its exact interval, and what invalid trials leave open."""
    words = f"{rate.k}/{rate.n} (exact {percent(rate.clopper_pearson95)}"
    bounds = rate.bounds_with_invalid
    return f"{words}, with invalid {percent(bounds)})" if bounds[0] < bounds[1] and rate.n else f"{words})"
