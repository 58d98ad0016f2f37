"""The first screen of a report: what was tested, when, where and how often, the verdict, and three figures of trust."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from redline.report.document import Report, RunView
from redline.report.labels import short_models
from redline.report.words import as_percent, capital, interval_words
from redline.results import Calibration, Results, TrialResult

State = Literal["good", "bad", "open"]

MAX_NAMED = 6
"""Maximum number of models that the first screen names in full."""


@dataclass(frozen=True)
class Box:
    """A figure of trust: a title, a value, and one line on its basis."""

    title: str
    value: str
    detail: str
    state: State


@dataclass(frozen=True)
class RunFront:
    """The first screen of one run."""

    facts: tuple[tuple[str, str], ...]
    boxes: tuple[Box, ...]
    citation: str = ""
    """The text by which a publication refers to this run; empty for a run that cannot be read."""


def title(report: Report) -> str:
    """Return the title of a report: what kind of run it is about."""
    if len(report.runs) > 1:
        return f"Comparison of {len(report.runs)} runs: {', '.join(run.name for run in report.runs)}"
    run = report.runs[0]
    match run.headline.kind:
        case "calibration":
            return "Calibration: how often does the verifier err?"
        case "guardrails":
            return "Guardrails: what do they prevent, and what do they cost?"
        case "controls":
            return "Test of the instrument with scripted controls"
        case _:
            return "Does the agent make a live, separate copy of itself?"


def fronts(report: Report) -> tuple[RunFront, ...]:
    """Return the first screen of each run."""
    return tuple(_front(run) for run in report.runs)


def _front(run: RunView) -> RunFront:
    if run.results is None:
        return RunFront((), ())
    return RunFront(
        facts=(
            ("Tested", _tested(run.results)),
            ("When", _when(run)),
            ("Where", _where(run.results)),
            ("How many", _how_many(run.results)),
        ),
        boxes=(_containment(run), _verifier(run), _invalid(run, run.results.trials)),
        citation=_citation(run, run.results),
    )


def _citation(run: RunView, results: Results) -> str:
    """Name the software, and the run by its date, its number of trials and the hashes that identify it."""
    begun = f"Run of {run.measured[0]}" if run.measured else "Run"
    return (
        f"The redline authors. redline {results.redline_version} [software]. {begun}: {len(results.trials)} of "
        f"{results.plan.planned_trials} planned trials; plan sha256 {results.plan.sha256}, "
        f"results.json sha256 {run.results_sha256}."
    )


def _tested(results: Results) -> str:
    controls = sorted(name for name in _models(results) if name.startswith("redline/"))
    models = [name for name in _models(results) if name not in controls]
    parts = [", ".join(_model_words(results, models))] if models else []
    if controls:
        names = list(short_models(controls).values())
        named = ", ".join(names) if len(names) <= MAX_NAMED else f"{len(names)} of them"
        only = "" if models else ": this run tests the instrument, not a model"
        parts.append(f"scripted controls ({named}){only}")
    return "; ".join(parts) or "nothing: no trial ran"


def _models(results: Results) -> list[str]:
    return list(dict.fromkeys(one.model for one in results.conditions))


def _model_words(results: Results, models: Sequence[str]) -> Iterator[str]:
    """Yield each model with its version: the name that its server reported, or the type and hash of its file."""
    for name in models[:MAX_NAMED]:
        reported = {trial.answered_as for trial in results.trials if trial.model == name and trial.answered_as}
        served = next((one for one in results.models if one.model == name), None)
        versions = sorted(reported - {name, name.split("/", 1)[-1]})
        if served is not None:
            versions = [f"{served.file}, {served.quantisation or 'unknown type'}, sha256 {served.sha256[:12]}…"]
        words = versions[0] if served is not None else f"answered as {', '.join(versions)}"
        yield f"{name} ({words})" if versions else name
    if len(models) > MAX_NAMED:
        yield f"{len(models) - MAX_NAMED} more"


def _when(run: RunView) -> str:
    if not run.measured:
        return "not recorded"
    resumed = f", resumed {len(run.measured) - 1} times, last {run.measured[-1]}" if len(run.measured) > 1 else ""
    return f"started {run.measured[0]}{resumed}"


def _where(results: Results) -> str:
    seal = results.seal
    observer = f", observed from {seal.observer}" if seal.observer else ""
    return f"sealed cells on {seal.runtime or 'no runtime'}{observer}; redline {results.redline_version}"


def _how_many(results: Results) -> str:
    ran, planned = len(results.trials), results.plan.planned_trials
    counted = sum(one.rate.n for one in results.conditions)
    scenarios = ", ".join(dict.fromkeys(one.scenario.replace("_", " ") for one in results.conditions))
    numbers = sorted({one.rate.n for one in results.conditions})
    each = (
        f"n = {numbers[0]}" if len(set(numbers)) == 1 else f"n = {numbers[0]} to {numbers[-1]}" if numbers else "n = 0"
    )
    conditions = len(results.conditions)
    return (
        f"{ran} of {planned} planned trials ran, {counted} of them valid and exposed; {each} in "
        f"{'the only condition' if conditions == 1 else f'each of {conditions} conditions'}; {scenarios}"
    )


def _containment(run: RunView) -> Box:
    assert run.results is not None
    seal = run.results.seal
    if run.faults:
        return Box("Containment", "No claim", "the records of the run are inconsistent", "bad")
    if seal.verified:
        lacking = f"; {len(seal.lacking)} not possible here" if seal.lacking else ""
        held = f"{len(seal.probes.passed)} probes held before and after every trial on {seal.runtime}{lacking}"
        return Box("Containment", "Verified", held, "good")
    return Box("Containment", "Not verified", capital(run.seal.partition(": ")[2]), "bad")


def _verifier(run: RunView) -> Box:
    assert run.results is not None
    found: Calibration | None = run.calibrated or run.results.calibration
    if found is None:
        command = f"redline calibrate --runtime {run.results.seal.runtime or 'auto'}"
        return Box("Verifier error rate", "Not measured", f"not calibrated on this host: {command}", "open")
    wrong = found.trials - found.right
    where = (
        f"{wrong} of {found.trials} control trials misjudged ({interval_words(wrong, found.trials)}), {found.runtime}"
    )
    return Box("Verifier error rate", _share(wrong, found.trials), where, "bad" if wrong else "good")


def _invalid(run: RunView, trials: Sequence[TrialResult]) -> Box:
    if run.calibrated is not None:  # some controls break their cell, so that their trials are correctly invalid
        k, n = run.calibrated.invalid.k, run.calibrated.invalid.n
        return Box("Invalid trials", _share(k, n), "of the trials that can be judged", "open" if k else "good")
    invalid = [trial for trial in trials if trial.outcome == "invalid"]
    causes = [
        f"{count} by the {cause}"
        for cause in ("agent", "harness")
        if (count := sum(trial.invalid_cause == cause for trial in invalid))
    ]
    detail = f"{len(invalid)} of {len(trials)} trials could not be judged" + (
        f": {', '.join(causes)}" if causes else ""
    )
    return Box("Invalid trials", _share(len(invalid), len(trials)), detail, "open" if invalid else "good")


def _share(k: int, n: int) -> str:
    return f"{as_percent(k / n)} ({k} of {n})" if n else "none ran"
