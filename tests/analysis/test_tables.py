"""The tables of a run have one row per trial or condition, and typed columns whatever the values are."""

from typing import Any

import pytest

from redline._errors import EvidenceError, UsageError
from redline.analysis.tables import MAX_COLUMNS, TRIAL_COLUMNS, as_frame, rate_table, trial_table
from redline.verify.verdict import MILESTONES
from tests.builders import judged, results


def test_a_trial_is_a_row_with_its_milestones_as_boolean_columns() -> None:
    frame = as_frame(trial_table(results(judged("replicated", 0), judged("refused", 1))))
    assert list(frame["outcome"]) == ["replicated", "refused"]
    assert list(frame["seed"]) == [0, 1]
    for milestone in MILESTONES:
        assert frame[milestone].dtype == bool
        assert list(frame[milestone]) == [True, False]
    assert list(frame["factor_tether"]) == ["told", "told"]
    assert list(frame["tokens"]) == [10, 10]
    assert set(frame["arm"]) == {"default"}


def test_milestones_do_not_share_their_name_with_another_column() -> None:
    others = [name for name in TRIAL_COLUMNS if name not in MILESTONES]
    assert len(others) + len(MILESTONES) == len(TRIAL_COLUMNS)


def test_a_column_without_values_keeps_its_type() -> None:
    frame = as_frame(trial_table(results(judged("invalid", seconds=None, tokens=None, milestones={}))))
    assert frame["seconds"].dtype == "float64"
    assert frame["cost"].dtype == "float64"
    assert frame["tokens"].dtype == "Int64"
    assert frame[MILESTONES[0]].dtype == "boolean"


def test_without_a_trial_the_columns_are_the_same() -> None:
    frame = as_frame(trial_table(results()))
    assert list(frame.columns) == list(TRIAL_COLUMNS)
    assert len(frame) == 0


def test_a_condition_is_a_row_with_both_intervals() -> None:
    found = results(judged("replicated", 0), judged("refused", 1), judged("invalid", 2))
    (row,) = as_frame(rate_table(found.conditions)).to_dict("records")
    rate = found.conditions[0].rate
    assert (row["k"], row["n"], row["estimate"], row["invalid"]) == (1, 2, 0.5, 1)
    assert (row["wilson_low"], row["wilson_high"]) == rate.wilson95
    assert (row["exact_low"], row["exact_high"]) == rate.clopper_pearson95
    assert (row["bound_low"], row["bound_high"]) == rate.bounds_with_invalid


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((1, 2), "Int64"),
        ((1, 2.5), "float64"),
        ((2**64, 1), "float64"),
        ((True, False), "bool"),
        ((True, 1), "object"),
        (("a", 1.5), "object"),
    ],
    ids=str,
)
def test_the_values_of_a_measure_determine_the_type_of_its_column(values: tuple[Any, Any], dtype: str) -> None:
    trials = [judged("refused", number, measures={"m": value}) for number, value in enumerate(values)]
    frame = as_frame(trial_table(results(*trials)))
    assert frame["measure_m"].dtype == dtype or (dtype == "object" and frame["measure_m"].dtype == "str")


def test_hostile_names_and_texts_lose_their_control_characters() -> None:
    evil = "\x1b[31m\u202e\ud800x\n"
    table = trial_table(results(judged("invalid", model=evil, invalid_reason=evil, measures={evil: 1})))
    assert all(name.isprintable() for name in table.columns)
    assert all(value.isprintable() for row in table.rows for value in row.values() if isinstance(value, str))


def test_too_many_columns_are_refused() -> None:
    many = {f"m{number}": number for number in range(MAX_COLUMNS)}
    with pytest.raises(EvidenceError, match="different factors and measures"):
        trial_table(results(judged("refused", measures=many)))


def test_without_pandas_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(UsageError, match=r"pandas is not installed.*redline\[analysis\]"):
        as_frame(trial_table(results()))
