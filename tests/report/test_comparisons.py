"""Families of comparisons: each asks one question, and no pair differs in two respects."""

from typing import Any

import pytest

from redline.report import RunRecord, as_text, report_on
from redline.report.comparisons import Comparison, finding_words
from redline.results import JudgedTrial
from tests.builders import judged, results


def trials(n: int, outcome: str = "replicated", model: str = "redline/replicator", **factors: Any) -> list[JudgedTrial]:
    arm = ",".join(f"{name}={value}" for name, value in factors.items())
    scenario = "benign" if "job" in factors else "self_replication"
    return [
        judged(outcome, seed, arm=arm, model=model, scenario=scenario, factors=factors, id=f"{arm}-{model}-{seed}")
        for seed in range(n)
    ]


def jobs(n: int, *names: str, done: bool = True, **factors: Any) -> list[JudgedTrial]:
    found = [one for name in names for one in trials(n, "no_attempt", job=name, **factors)]
    return [
        one.model_copy(update={"result": one.result.model_copy(update={"measures": {"job_done": done}})})
        for one in found
    ]


def compared(*runs: list[JudgedTrial]) -> list[Comparison]:
    records = [RunRecord(f"run{number}", results(*run), "0" * 64, (), (), None) for number, run in enumerate(runs)]
    return list(report_on(records).comparisons)


def pairs(found: list[Comparison]) -> list[tuple[str, str, str]]:
    return [(one.family, one.baseline_label, one.other_label) for one in found]


def test_an_arm_is_compared_only_with_one_that_differs_in_one_factor() -> None:
    run = [
        *trials(3, wording="plain", pressure="neutral"),
        *trials(3, wording="formal", pressure="insistent"),
        *trials(3, wording="casual", pressure="insistent"),
        *trials(3, wording="casual", pressure="neutral"),
    ]
    report = report_on([RunRecord("run", results(*run), "0" * 64, (), (), None)])
    factors = {view.number: view.condition.factors for view in report.conditions}
    assert len(report.comparisons) >= 2
    for one in report.comparisons:
        first, second = factors[one.baseline], factors[one.other]
        (name,) = [name for name in first if first[name] != second[name]]
        assert (one.baseline_label, one.other_label) == (f"{name}={first[name]}", f"{name}={second[name]}")


def test_guardrails_are_compared_with_off_and_never_with_jobs() -> None:
    found = compared(
        [
            *trials(8, guardrails="none"),
            *trials(8, "partial", guardrails="weight_lock"),
            *jobs(2, "a", "b", "c", guardrails="none"),
            *jobs(2, "a", "b", "c", guardrails="weight_lock", done=False),
        ]
    )
    assert pairs(found) == [("guardrails", "off", "weight_lock"), ("jobs", "off", "weight_lock")]
    attacks, work = found
    assert (attacks.baseline_count.k, attacks.other_count.k, attacks.test) == (8, 0, "McNemar")
    assert (work.baseline_count.n, work.baseline_count.k, work.other_count.k) == (6, 6, 0)
    assert work.question == "3 ordinary jobs, redline/replicator"
    assert [one.finding for one in found] == ["differs", "differs"]


def test_jobs_that_ran_on_one_side_only_leave_the_pool() -> None:
    (work,) = compared([*jobs(3, "a", "b", guardrails="none"), *jobs(3, "a", guardrails="weight_lock")])
    assert (work.baseline_count.n, work.other_count.n) == (3, 3)


def test_models_and_arms_are_compared_without_guardrails_only() -> None:
    found = compared(
        [
            *trials(3, guardrails="none"),
            *trials(3, guardrails="weight_lock"),
            *trials(3, model="other/m", guardrails="none"),
            *trials(3, model="other/m", guardrails="weight_lock"),
        ]
    )
    assert [one.family for one in found] == ["models", "guardrails", "guardrails"]
    # Each model's guardrails are a question of their own.
    assert [one.compared for one in found] == [1, 1, 1]


def test_models_in_two_runs_are_compared_and_a_model_of_the_same_run_comes_first() -> None:
    first, second = trials(4, wording="plain"), trials(4, "failed", model="other/m", wording="plain")
    (found,) = compared(first, second)
    assert (found.family, found.other_label) == ("models", "other/m")
    both = compared(first, [*first, *second])
    assert [(one.family, one.baseline) for one in both] == [("models", 2), ("runs", 1)]


def test_a_guarded_run_is_compared_with_a_run_without_guardrails() -> None:
    (found,) = compared(trials(8, guardrails="none"), trials(8, "partial", guardrails="weight_lock"))
    assert (found.family, found.baseline_label, found.finding) == ("guardrails", "off", "differs")


@pytest.mark.parametrize(("n", "finding"), [(5, "not_detectable"), (12, "none_found")])
def test_not_detectable_is_not_the_same_as_no_difference(n: int, finding: str) -> None:
    (found,) = compared([*trials(n, guardrails="none"), *trials(n, guardrails="weight_lock")])
    assert found.finding == finding
    words = finding_words(found)
    assert ("not detectable" in words) is (finding == "not_detectable")
    assert ("no difference found" in words) is (finding == "none_found")


def test_markdown_has_the_section_of_the_guardrails() -> None:
    run = [*trials(8, guardrails="none"), *trials(8, "partial", guardrails="weight_lock")]
    text = as_text(report_on([RunRecord("run", results(*run), "0" * 64, (), (), None)]), "md")
    assert "### Guardrails" in text
    assert "8 pairs per setting" in text
    assert "differs" in text
    for line in text.splitlines():
        assert not line.startswith("|") or line.rstrip().endswith("|")
