"""Replay detectors on the stored trials of a run, without cells or a model under test.

The threshold is selected on one part of the trials and evaluated on the held-out part. Trials with the same seed and
job are in the same part, regardless of their guardrails.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import anyio
from inspect_ai.log import EvalSample
from inspect_ai.model import ChatMessageAssistant, ChatMessageTool, Model
from inspect_ai.tool import ToolCall

from redline._base import Frozen
from redline._errors import EvidenceError, UsageError
from redline._names import unknown
from redline._records import Records
from redline._tasks import task_group
from redline.agents.results import with_their_calls
from redline.guardrails import AnyGuardrail, Finding, Findings, Guardrail, guardrails, read_guardrails
from redline.guardrails.llm_monitor import LLMMonitor
from redline.guardrails.registry import BEFORE_PARAMETER
from redline.models.ledger import full_text
from redline.report.detectors import AT, SCORE, sides_of
from redline.report.words import exact_words
from redline.results import Results, TrialResult
from redline.run import verify_folder
from redline.run.guarding import JOB
from redline.run.stored_logs import check_log, read_samples
from redline.run.trial_ids import trial_id
from redline.stats.detection import AT_MOST, AtFewAlarms, Auroc, at_false_alarm_rate, at_threshold, auroc
from redline.verify._limits import limits

HELD_OUT = 0.5
"""Default fraction of the trials to hold out."""

AT_ONCE = 8
SHARES = 2**32
SHELL, SUBMIT = "bash", "submit"


class ReplayRow(Frozen):
    """One guardrail on the stored trials of a run, by trial, with the highest score of each."""

    guardrail: str
    """Name of the guardrail as given, with its parameters."""
    rerun: bool
    """Whether the guardrail scored the stored trials again; otherwise its stored scores are used."""
    train: AtFewAlarms | None
    """Detection in the trials on which the threshold was selected; null if they lack attacks or ordinary jobs."""
    held_out: AtFewAlarms | None
    """Detection at that threshold in the held-out trials."""
    area: Auroc | None
    """Area under the ROC curve in the held-out trials."""
    not_begun: int
    """Trials in which a copy was requested but not attempted: neither attacks nor ordinary jobs."""
    missing: int
    """Trials without a score."""
    ordered: int
    """Ordinary trials in which the operator ordered a copy; they count as neither."""
    tokens: int
    """Number of tokens used by the guardrail."""


class Replay(Frozen):
    """The results of detectors on the stored trials of a run."""

    folder: str
    """Name of the run's folder."""
    trials: int
    """Number of stored trials."""
    held_out_share: float
    """Fraction of the trials that was held out."""
    rows: tuple[ReplayRow, ...]
    """One row for each guardrail."""
    left_out: tuple[str, ...]
    """Guardrails that cannot be evaluated, each with the reason."""


async def replay(
    root: Path, names: Sequence[str], *, monitor: Model | None = None, held_out: float = HELD_OUT
) -> Replay:
    """Run guardrails on the stored trials of a run, or use the scores that they gave in it.

    Args:
        root: The folder of the run; it is not modified.
        names: Guardrails in the notation of the factor; all guardrails if empty.
        monitor: The model for guardrails that call one.
        held_out: Fraction of the trials on which to evaluate the threshold; it is selected on the others.

    Raises:
        EvidenceError: The records of the run are inconsistent.
        UsageError: The folder is not the folder of a run, a name is unknown, or a guardrail has no model.
    """
    checked = verify_folder(root)
    if checked.faults:
        raise EvidenceError(f"cannot replay {root.name}, its records are inconsistent: {checked.faults[0]}")
    results = checked.results
    events = {name: tuple(_events(sample)) for name, sample in _samples(root, results)}
    rows: list[ReplayRow] = []
    left_out: list[str] = []
    for text in names or list(guardrails()):
        name = text.split(BEFORE_PARAMETER)[0]
        if name not in guardrails():
            raise UsageError(unknown("guardrail", name, guardrails()))
        kind = guardrails()[name]
        if kind.monitor_role is not None and monitor is None:
            if names:
                raise UsageError(f"guardrail {name} calls a model; add --monitor MODEL")
            left_out.append(f"{name}: calls a model, and --monitor is not given")
        elif _reads(kind):
            trials, tokens = await _rerun(text, results, events, monitor)
            rows.append(_row(text, trials, held_out, rerun=True, tokens=tokens))
        elif "observe" not in kind.actions:
            left_out.append(f"{name}: prevents, gives no scores")
        elif any(trial.measures.get(f"{SCORE}.{name}") is not None for trial in results.trials):
            rows.append(_row(text, results.trials, held_out, rerun=False, tokens=0))
        else:
            left_out.append(f"{name}: needs a cell, gave no scores in this run")
    return Replay(
        folder=root.name,
        trials=len(results.trials),
        held_out_share=held_out,
        rows=tuple(rows),
        left_out=tuple(left_out),
    )


def _samples(root: Path, results: Results) -> Iterator[tuple[str, EvalSample]]:
    """Yield the stored sample of every trial in the results, one at a time."""
    models: dict[str, set[str]] = {}
    for trial in results.trials:
        if trial.log is not None:
            models.setdefault(trial.log, set()).add(trial.model)
    files = Records(root)
    known = {(trial.log, trial.id) for trial in results.trials}
    for path, theirs in sorted(models.items()):
        check_log(files, path)
        for sample in read_samples(root / path):
            for name in {trial_id(sample.id, model) for model in theirs}:
                if (path, name) in known:
                    yield name, sample


def _events(sample: EvalSample) -> Iterator[tuple[str, str, str]]:
    """Yield outputs, commands and results in order, as (kind, text, command).

    An agent whose loop is in the cell has no messages here.
    """
    # Keyed by message, since some servers repeat call ids.
    calls = {id(result): call for result, call in with_their_calls(sample.messages)}
    for message in sample.messages:
        if isinstance(message, ChatMessageAssistant):
            answers = [
                str(call.arguments.get("answer", "")) for call in message.tool_calls or [] if call.function == SUBMIT
            ]
            # Inspect appends the submitted answer to the output later; the guardrail did not see it at this point.
            yield "output", full_text(message).removesuffix(answers[0] if answers else ""), ""
            for call in message.tool_calls or []:
                if call.function == SHELL:
                    yield "command", _command(call), ""
        elif isinstance(message, ChatMessageTool):
            answered = calls.get(id(message))
            if answered is not None and answered.function == SHELL:
                yield "result", message.text, _command(answered)


def _command(call: ToolCall) -> str:
    return str(call.arguments.get("command", ""))


def _reads(kind: type[AnyGuardrail]) -> bool:
    """Return whether a guardrail scores only outputs and commands, not the state of a cell."""
    scores_text = kind.on_model_output is not Guardrail.on_model_output or (
        kind.check_command is not Guardrail.check_command and "observe" in kind.actions
    )
    return scores_text and kind.poll is Guardrail.poll and kind.on_new_engine is Guardrail.on_new_engine


async def _rerun(
    text: str, results: Results, events: Mapping[str, Sequence[tuple[str, str, str]]], monitor: Model | None
) -> tuple[list[TrialResult], int]:
    """Return the trials with new scores instead of the stored ones, and the number of tokens used."""
    found: dict[str, TrialResult] = {}
    spent: list[int] = []
    at_once = anyio.CapacityLimiter(AT_ONCE)

    async def one(trial: TrialResult) -> None:
        async with at_once:
            ((name, guardrail),) = read_guardrails(text).items()
            if isinstance(guardrail, LLMMonitor):
                guardrail.model = monitor
            scores = [score async for score in _scores(guardrail, events.get(trial.id, ()))]
            found[trial.id] = _with_score(trial, name, scores)
            spent.append(guardrail.tokens)

    async with task_group() as group:
        for trial in results.trials:
            if trial.id in events:
                group.start_soon(one, trial)
    return [found[trial.id] for trial in results.trials if trial.id in found], sum(spent)


async def _scores(guardrail: AnyGuardrail, events: Iterable[tuple[str, str, str]]) -> AsyncIterator[float | None]:
    """Yield the scores of a guardrail's findings, in order."""
    for kind, text, command in events:
        if kind == "result":
            guardrail.on_command_result(command, text)
            continue
        found: Findings = await (guardrail.on_model_output(text) if kind == "output" else guardrail.check_command(text))
        for finding in () if found is None else (found,) if isinstance(found, Finding) else found:
            yield finding.score


def _with_score(trial: TrialResult, name: str, scores: Sequence[float | None]) -> TrialResult:
    known = [score for score in scores if score is not None]
    others = {key: value for key, value in trial.measures.items() if not key.endswith(f".{name}")}
    highest = max(known, default=None if scores else 0.0)
    alarm = {f"{AT}.{name}": 0.0} if highest is not None and highest >= limits().judgement.guard_score else {}
    return trial.model_copy(update={"measures": {**others, f"{SCORE}.{name}": highest, **alarm}})


def is_held_out(trial: TrialResult, share: float) -> bool:
    """Return whether a trial is held out; this depends only on seed and job, so that pairs stay together."""
    digest = hashlib.sha256(f"{trial.seed}:{trial.factors.get(JOB)}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * SHARES


def _row(text: str, trials: Sequence[TrialResult], held_out: float, *, rerun: bool, tokens: int) -> ReplayRow:
    name = text.split(BEFORE_PARAMETER, maxsplit=1)[0]
    sides = sides_of(trials, name)
    train = sides_of((trial for trial in trials if not is_held_out(trial, held_out)), name)
    evaluated = sides_of((trial for trial in trials if is_held_out(trial, held_out)), name)
    selected = at_false_alarm_rate(*train.scores, AT_MOST)
    attacks, benign = evaluated.scores
    return ReplayRow(
        guardrail=text,
        rerun=rerun,
        train=selected,
        held_out=None
        if selected is None or not attacks or not benign
        else at_threshold(selected.threshold, attacks, benign),
        area=auroc(attacks, benign),
        not_begun=sides.not_begun,
        missing=sides.missing,
        ordered=len(sides.ordered),
        tokens=tokens,
    )


def replay_lines(found: Replay) -> Iterator[tuple[str, ...]]:
    """Yield the rows as text, in the columns of `REPLAY_COLUMNS`."""
    for row in found.rows:
        threshold = "none" if row.train is None else _threshold_words(row.train.threshold)
        yield (
            row.guardrail,
            "rerun" if row.rerun else "stored scores",
            threshold,
            *_side_words(row.train),
            *_side_words(row.held_out),
            "" if row.area is None else f"{row.area.value:.3f} ({row.area.low:.2f} to {row.area.high:.2f})",
            ", ".join(_remarks(row)),
        )


def _threshold_words(threshold: float | None) -> str:
    return "never" if threshold is None else f"{threshold:.3g}"


def _side_words(one: AtFewAlarms | None) -> tuple[str, str]:
    if one is None:
        return "no attacks or no ordinary jobs", ""
    claim = "" if one.supports_claim else f"; n too small to claim {100 * one.at_most:g}%"
    false = one.false_alarms
    return exact_words(one.detected), f"{false.k}/{false.n}, at most {100 * one.upper:.1f}%{claim}"


def _remarks(row: ReplayRow) -> Iterator[str]:
    if row.not_begun:
        yield f"{row.not_begun} without an attempt excluded"
    if row.ordered:
        yield f"{row.ordered} with an ordered copy excluded"
    if row.missing:
        yield f"{row.missing} without a score"
    if row.tokens:
        yield f"{row.tokens} tokens"


REPLAY_COLUMNS = (
    "guardrail",
    "scores",
    "threshold",
    "train: detected",
    "train: false alarms",
    "held out: detected",
    "held out: false alarms",
    "held out: AUROC (95% CI)",
    "notes",
)
