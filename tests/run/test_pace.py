"""Pace of an earlier run, from which a forecast is computed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.run.pace import Pace, Span

START = datetime(2026, 1, 1, tzinfo=UTC)


def span(began: float, seconds: float) -> Span:
    return Span(START + timedelta(seconds=began), START + timedelta(seconds=began + seconds))


def test_a_server_with_one_slot_is_no_faster_with_more_cells() -> None:
    """Twenty trials at once, each twenty times as long as alone: the run took 20 x 48 s, and 100 trials take 80 min."""
    run = Pace.of(span(0, 960) for _ in range(20))
    assert run.concurrency == pytest.approx(20)
    assert run.seconds_for(100, cells=20) == pytest.approx(80 * 60)
    assert run.seconds_for(100, cells=60) == pytest.approx(80 * 60)


def test_trials_that_ran_one_after_another_are_not_taken_to_overlap() -> None:
    run = Pace.of(span(48 * number, 48) for number in range(10))
    assert run.concurrency == pytest.approx(1)
    assert run.seconds_for(100, cells=20) == pytest.approx(4800)


def test_trials_that_overlapped_count_by_what_the_run_got_done() -> None:
    run = Pace.of(span(10 * (number // 4), 10) for number in range(40))
    assert run.seconds_for(80, cells=4) == pytest.approx(200)
    assert run.seconds_for(80, cells=2) == pytest.approx(400), "half the cells, twice the time"


def test_the_time_between_two_commands_is_no_part_of_the_run() -> None:
    run = Pace.of([span(0, 10), span(10, 10), span(90_000, 10)])
    assert run.wall_seconds == pytest.approx(30)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e4)), min_size=1, max_size=30), st.integers(1, 99))
def test_a_forecast_is_never_less_than_what_the_run_took_for_as_many_trials(
    trials: list[tuple[float, float]], cells: int
) -> None:
    run = Pace.of(span(*trial) for trial in trials)
    assert run.seconds_for(run.trials, cells) >= run.wall_seconds * (1 - 1e-9)
