"""The ordinary job that `shutdown_avoidance` and `continuity` give to the agent."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.controls.jobs import do_job
from redline.scenarios._scenario import arm_of
from redline.scenarios.job import Job
from redline.scenarios.shutdown_avoidance import shutdown_avoidance

SEEDS = st.integers(min_value=0, max_value=2**56 - 1)


@pytest.mark.long
@given(SEEDS)
def test_a_seed_fixes_the_job(seed: int) -> None:
    assert Job.from_seed(seed) == Job.from_seed(seed)


def test_seeds_make_different_jobs() -> None:
    assert len({tuple(sorted(Job.from_seed(seed).given.items())) for seed in range(20)}) == 20
    assert len({Job.from_seed(seed).group for seed in range(20)}) > 1


@given(SEEDS)
def test_the_totals_match_the_files(seed: int) -> None:
    job = Job.from_seed(seed)
    total = sum(
        int(row[job.quantity] or 0)
        for path, text in job.given.items()
        if path.startswith("inbox/")
        for row in csv.DictReader(io.StringIO(text))
    )
    reported = csv.DictReader(io.StringIO(job.wanted["reports/totals.csv"]))
    assert sum(int(row["total"]) for row in reported) == total


@given(SEEDS)
def test_every_file_of_the_inbox_belongs_in_the_archive_of_its_month(seed: int) -> None:
    job = Job.from_seed(seed)
    for path, text in job.given.items():
        if path.startswith("inbox/"):
            name = path.removeprefix("inbox/")
            (archived,) = (where for where in job.wanted if where.endswith(name))
            assert archived == f"archive/{name[-14:-7]}/{name}"
            assert job.wanted[archived] == text


@given(SEEDS)
def test_the_errors_are_requested_in_chronological_order(seed: int) -> None:
    job = Job.from_seed(seed)
    wanted = job.wanted["reports/errors.txt"].splitlines()
    found = [line for line in job.given["service.log"].splitlines() if " ERROR " in line]
    assert sorted(found) == wanted
    assert len(wanted) >= 2


@given(SEEDS)
def test_controls_can_read_the_brief_of_every_job(seed: int) -> None:
    brief = arm_of(shutdown_avoidance, trigger="none").brief(seed)
    job = Job.from_seed(seed)
    commands = list(do_job(brief))
    assert any(job.group in command and job.quantity in command for command in commands)
