"""Tables of a run: one row per trial, per condition or per comparison, with typed columns.

Texts of a run can contain anything, so they lose control characters, and the number of columns is bounded.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from redline._errors import EvidenceError, UsageError
from redline._text import clean_line
from redline.report import Report
from redline.results import Condition, Results, TrialResult
from redline.verify.trial import Scalar
from redline.verify.verdict import MILESTONES

if TYPE_CHECKING:
    import pandas as pd

MAX_COLUMNS = 500
"""Maximum number of columns. Scenarios have about twenty factors and measures."""

LONGEST_TEXT = 1000
LONGEST_NAME = 80
MAX_INTEGER = 2**63 - 1

Kind = Literal["text", "bool", "int", "float"]
Value = str | bool | int | float | None
Row = dict[str, Value]

DTYPES: dict[Kind, str] = {"text": "object", "bool": "boolean", "int": "Int64", "float": "float64"}


TRIAL_COLUMNS: dict[str, Kind] = {
    **dict.fromkeys(("trial", "scenario", "arm", "model"), "text"),
    "seed": "int",
    "outcome": "text",
    **dict.fromkeys(("exposed", "counted", *MILESTONES), "bool"),
    "replicas": "int",
    **dict.fromkeys(("claimed", "false_claim"), "bool"),
    "harm": "text",
    "seconds": "float",
    "tokens": "int",
    "cost": "float",
    **dict.fromkeys(("loop_ended", "tool_calls", "answered_as", "invalid_cause", "invalid_reason"), "text"),
    **dict.fromkeys(("evidence", "evidence_sha256", "log"), "text"),
}
RATE_COLUMNS: dict[str, Kind] = {
    **dict.fromkeys(("scenario", "arm", "model"), "text"),
    **dict.fromkeys(("k", "n"), "int"),
    **dict.fromkeys(("estimate", "wilson_low", "wilson_high", "exact_low", "exact_high"), "float"),
    **dict.fromkeys(("bound_low", "bound_high"), "float"),
    **dict.fromkeys(("trials", "exposed", "invalid", "false_claims"), "int"),
}
_SIDE: dict[str, Kind] = {**dict.fromkeys(("run", "scenario", "arm", "model"), "text"), "k": "int", "n": "int"}
COMPARISON_COLUMNS: dict[str, Kind] = {
    "family": "text",
    **{f"baseline_{name}": kind for name, kind in _SIDE.items()},
    **{f"other_{name}": kind for name, kind in _SIDE.items()},
    **dict.fromkeys(("difference", "difference_low", "difference_high"), "float"),
    "test": "text",
    **dict.fromkeys(("p", "p_holm", "detectable"), "float"),
}
"""Kinds of the columns that every table has, so that a column without values keeps its type."""


@dataclass(frozen=True)
class Table:
    """Rows with the same columns."""

    columns: dict[str, Kind]
    rows: tuple[Row, ...]


def trial_table(results: Results) -> Table:
    """Return one row per trial: outcome, milestones, factors, measures, time and cost."""
    arm_of = {(one.scenario, _key(one.factors), one.model): one.arm for one in results.conditions}
    return _table((_trial(trial, arm_of) for trial in results.trials), TRIAL_COLUMNS)


def _trial(trial: TrialResult, arm_of: dict[tuple[str, str, str], str]) -> Row:
    row: Row = {
        "trial": trial.id,
        "scenario": trial.scenario,
        "arm": arm_of.get((trial.scenario, _key(trial.factors), trial.model)),
        "model": trial.model,
        "seed": trial.seed,
        "outcome": trial.outcome,
        "exposed": trial.exposed,
        "counted": trial.exposed and trial.outcome != "invalid",
    }
    row |= {name: trial.milestones.get(name) for name in MILESTONES}
    row |= {
        "replicas": len(trial.replicas),
        "claimed": trial.claimed,
        "false_claim": trial.false_claim,
        "harm": " ".join(trial.harm),
        "seconds": trial.seconds,
        "tokens": trial.tokens,
        "cost": trial.cost,
        "loop_ended": trial.loop_ended,
        "tool_calls": trial.tool_calls,
        "answered_as": trial.answered_as,
        "invalid_cause": trial.invalid_cause,
        "invalid_reason": trial.invalid_reason,
        "evidence": trial.evidence,
        "evidence_sha256": trial.evidence_sha256,
        "log": trial.log,
    }
    return row | _prefixed("factor", trial.factors) | _prefixed("measure", trial.measures)


def rate_table(conditions: Iterable[Condition]) -> Table:
    """Return one row per condition: k, n, the rate and its intervals."""
    return _table(map(_rate, conditions), RATE_COLUMNS)


def _rate(one: Condition) -> Row:
    rate = one.rate
    row: Row = {
        "scenario": one.scenario,
        "arm": one.arm,
        "model": one.model,
        "k": rate.k,
        "n": rate.n,
        "estimate": rate.estimate,
        "wilson_low": rate.wilson95[0],
        "wilson_high": rate.wilson95[1],
        "exact_low": rate.clopper_pearson95[0],
        "exact_high": rate.clopper_pearson95[1],
        "bound_low": rate.bounds_with_invalid[0],
        "bound_high": rate.bounds_with_invalid[1],
        "trials": one.trials,
        "exposed": one.exposed,
        "invalid": one.outcomes.get("invalid", 0),
        "false_claims": one.false_claims,
    }
    return row | _prefixed("factor", one.factors)


def comparison_table(report: Report) -> Table:
    """Return one row per comparison of two conditions: both counts, the difference and its interval, and p."""
    views = {view.number: view for view in report.conditions}
    rows: list[Row] = []
    for one in report.comparisons:
        row: Row = {"family": one.family}
        for side, number, count, label in (
            ("baseline", one.baseline, one.baseline_count, one.baseline_label),
            ("other", one.other, one.other_count, one.other_label),
        ):
            view = views[number]
            row |= {
                f"{side}_run": view.run,
                f"{side}_scenario": view.condition.scenario,
                # A pool of ordinary jobs has several arms.
                f"{side}_arm": label if one.family == "jobs" else view.condition.arm,
                f"{side}_model": view.condition.model,
                f"{side}_k": count.k,
                f"{side}_n": count.n,
            }
        rows.append(
            row
            | {
                "difference": one.difference,
                "difference_low": one.difference95[0],
                "difference_high": one.difference95[1],
                "test": one.test,
                "p": one.p,
                "p_holm": one.p_holm,
                "detectable": one.detectable,
            }
        )
    return _table(rows, COMPARISON_COLUMNS)


def as_frame(table: Table) -> "pd.DataFrame":
    """Return a table as a DataFrame of pandas.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise UsageError(missing("pandas")) from error
    return pd.DataFrame(
        {name: pd.Series([row.get(name) for row in table.rows], dtype=_dtype(table, name)) for name in table.columns}
    )


def _dtype(table: Table, name: str) -> str:
    kind = table.columns[name]
    has_gaps = any(row.get(name) is None for row in table.rows)
    return "bool" if kind == "bool" and not has_gaps else DTYPES[kind]


def missing(package: str) -> str:
    """Return the message for a missing package of the extra `analysis`."""
    return f"{package} is not installed. Run `pip install 'redline[analysis]'`."


def _table(rows: Iterable[Row], known: Mapping[str, Kind]) -> Table:
    cleaned = tuple({_name(name): _value(value) for name, value in row.items()} for row in rows)
    names = list(dict.fromkeys((*known, *(name for row in cleaned for name in row))))
    if len(names) > MAX_COLUMNS:
        raise EvidenceError(f"the results have {len(names)} different factors and measures, more than {MAX_COLUMNS}")
    columns = {name: _kind([row.get(name) for row in cleaned], known.get(name)) for name in names}
    converted = tuple({name: _as(kind, row.get(name)) for name, kind in columns.items()} for row in cleaned)
    return Table(columns, converted)


def _kind(values: Sequence[Value], known: Kind | None) -> Kind:
    """Return the narrowest kind that all values of a column have; a mixed column is text."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return known or "text"
    if kinds == {bool}:
        return "bool"
    if known != "float" and kinds == {int} and all(value is None or abs(int(value)) <= MAX_INTEGER for value in values):
        return "int"
    return "float" if kinds <= {int, float} else "text"


def _as(kind: Kind, value: Value) -> Value:
    if value is None or kind in ("bool", "int"):
        return value
    return float(value) if kind == "float" else str(value)


def _prefixed(prefix: str, values: dict[str, Scalar]) -> Row:
    """Return factors or measures as columns whose names cannot be those of other columns."""
    return {f"{prefix}_{name}": value for name, value in values.items()}


def _name(name: str) -> str:
    return clean_line(name, LONGEST_NAME)


def _value(value: Value) -> Value:
    return clean_line(value, LONGEST_TEXT) if isinstance(value, str) else value


def _key(factors: dict[str, Scalar]) -> str:
    return repr(sorted(factors.items()))
