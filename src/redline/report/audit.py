"""What an auditor needs in the report itself: sampled trials, and the conditions under which the conclusion fails.

Five trials of every condition are sampled at random, and decisive ones are added, each with the agent's commands and
their output.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from redline._base import read_toml
from redline._text import counted
from redline.report._data import bounds
from redline.report.selection import sample
from redline.results import Condition, Results, TrialResult
from redline.stats import percent
from redline.stats.power import counts_that_decide
from redline.verify.evidence import Evidence

ELICITATION = (
    ("agent", "scaffold"),
    ("solver", "solver"),
    ("shell", "shell of the agent"),
    ("tool_calls", "tool calls requested"),
    ("wording", "wording of the request"),
    ("hint", "hint"),
    ("pressure", "pressure in the text"),
    ("alternative", "alternative offered"),
    ("tether", "whether the tether is explained"),
    ("message_limit", "messages per trial"),
    ("time_limit", "working time per trial, s"),
)
"""Factors that describe elicitation, with their names in the report; those that a scenario lacks are left out."""


@dataclass(frozen=True)
class CommandView:
    """A command of the agent, as the report shows it."""

    at: float
    """Seconds since the trial began."""
    command: str
    output: str
    """The end of the output."""
    left_out: int
    """Number of characters of both that are only in the log."""


@dataclass(frozen=True)
class Commands:
    """The commands of one trial."""

    shown: tuple[CommandView, ...]
    left_out: int
    """Number of commands that are only in the evidence file or the log."""
    final: str
    """The end of the agent's last message."""


@dataclass(frozen=True)
class Sampled:
    """A trial that the report shows with its commands."""

    trial: str
    condition: int
    """Number of its condition in the report."""
    outcome: str
    why: str
    """`random`, or why the trial is decisive."""
    commands: Commands | None
    """None if there is no unaltered evidence."""


@dataclass(frozen=True)
class RunAudit:
    """What an auditor needs about one run."""

    run: str
    samples: tuple[Sampled, ...]
    fails_if: tuple[str, ...]
    """Conditions under which the conclusion no longer holds."""
    elicitation: tuple[tuple[str, str], ...]
    """How the model was elicited: scaffold, attempts, limits and budget."""


def commands_of(evidence: Evidence) -> Commands:
    """Return the commands of a trial within the limits of a report, the first and the last ones."""
    behaviour = evidence.behaviour
    every = () if behaviour is None else behaviour.commands
    limit, text = bounds().commands, bounds().command_text
    head = limit - limit // 2
    kept = every if len(every) <= limit else (*every[:head], *every[len(every) - limit // 2 :])
    return Commands(
        shown=tuple(
            CommandView(
                one.at,
                one.command[:text],
                one.output[-text:],
                one.characters_left_out + max(len(one.command) - text, 0) + max(len(one.output) - text, 0),
            )
            for one in kept
        ),
        left_out=len(every) - len(kept) + (0 if behaviour is None else behaviour.commands_left_out),
        final=evidence.transcript.final[-bounds().final :],
    )


def audit_of(
    run: str,
    results: Results,
    commands: Mapping[str, Commands],
    numbers: Mapping[str, int],
) -> RunAudit:
    """Return what an auditor needs about a run.

    Args:
        run: Name of the run.
        results: Its results.
        commands: The commands of each trial with unaltered evidence.
        numbers: The number of each trial's condition in the report.
    """
    groups: dict[int, list[TrialResult]] = {}
    for trial in results.trials:
        groups.setdefault(numbers.get(trial.id, 0), []).append(trial)
    samples = [
        Sampled(trial.id, number, trial.outcome, why, commands.get(trial.id))
        for number, trials in groups.items()
        for trial, why in sample(trials, results.plan.seed)
    ]
    return RunAudit(run, tuple(samples), tuple(_fails_if(results)), tuple(_elicitation(results)))


def _fails_if(results: Results) -> Iterator[str]:
    """Yield the conditions under which the conclusion no longer holds, those with figures of this run first."""
    tested = {(arm.scenario, results.plan.label_of(model.name, model.args)) for arm, model in results.plan.tested}
    for one in results.conditions:
        if (one.scenario, one.model) in tested:
            yield from _margin(results, one)
    for one in results.conditions:
        yield from _remarks(one)
    if results.calibration is None:
        yield "The verifier's error rate is not known on this host: no calibration was run."
    elif results.calibration.misjudged:
        yield f"The verifier misjudged {len(results.calibration.misjudged)} control trials in its calibration."
    for probe, reason in results.seal.lacking.items():
        yield f"A boundary that was not measured did not hold: {probe} ({reason})."
    yield from read_toml("redline.report", "data/audit.toml")["fails_if"]


def _margin(results: Results, one: Condition) -> Iterator[str]:
    """Yield by how many trials the verdict on a condition depends on its count."""
    rule, n = results.plan.rule, one.rate.n
    if rule.metric != "replicated" or not n:
        return
    open_from, crossed_from = counts_that_decide(rule, n)
    below = f"not crossed up to {open_from - 1}" if open_from > 0 else "never not crossed"
    above = f"crossed from {crossed_from}" if crossed_from <= n else "never crossed"
    yield (
        f"{_name(one)}: the verdict depends on the count, {one.rate.k} of {n} valid trials. By the plan's rule, {n} "
        f"trials are {below} and {above}. The true rate is in {percent(one.rate.clopper_pearson95)} (95% CI)."
    )


def _remarks(one: Condition) -> Iterator[str]:
    side = one.model_side
    for count, limit in (
        (side.ended_by_time, "time limit"),
        (side.ended_by_length, "output length"),
        (side.ended_by_context, "context length"),
    ):
        if count.k:
            yield f"{_name(one)}: with a higher {limit} the rate can be higher; it ended {count.k} of {count.n} trials."
    if invalid := one.outcomes.get("invalid", 0):
        yield (
            f"{_name(one)}: the rate excludes {counted(invalid, 'invalid trial')}; with them it is "
            f"{percent(one.rate.bounds_with_invalid)}."
        )
    if unexposed := one.trials - one.exposed:
        yield (
            f"{_name(one)}: the rate excludes {counted(unexposed, 'trial')} that did not reach the event of the arm."
        )


def _name(one: Condition) -> str:
    return ", ".join(filter(None, (one.model, one.scenario, one.arm)))


def _elicitation(results: Results) -> Iterator[tuple[str, str]]:
    plan = results.plan
    for name, words in ELICITATION:
        settings = dict.fromkeys(str(arm.factors[name]) for arm in plan.arms if name in arm.factors)
        if settings:
            yield words, ", ".join(settings)
    yield (
        "attempts per trial",
        "one; the best of several attempts is not reported, and a finished trial is not repeated",
    )
    yield "trials", ", ".join(_trials(results))
    yield "sampling", f"temperature {'of the model' if plan.temperature is None else plan.temperature}"
    yield "output tokens per call", str(plan.max_tokens)
    yield "budget", "no cost limit" if plan.max_cost is None else f"${plan.max_cost:g}, divided among the trials"
    calls = sum(one.model_side.answered for one in results.conditions)
    yield "used", f"{calls} model calls, {sum(trial.tokens or 0 for trial in results.trials)} tokens"
    modes = dict.fromkeys(trial.tool_calls for trial in results.trials if trial.tool_calls)
    if modes:
        yield "tool calls", ", ".join(modes)
    yield "fine-tuning, safeguards removed", "none by redline; the model is used as its server provides it"


def _trials(results: Results) -> Iterable[str]:
    numbers = dict.fromkeys(results.plan.trials_of(arm) for arm in results.plan.arms)
    return (f"{number} per arm and model" for number in numbers)
