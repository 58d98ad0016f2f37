"""Which trials the page shows: a reproducible random sample, decisive trials, and a bounded number of a large run."""

from itertools import chain
from typing import Any

import pytest

from redline.report import RunRecord, render_page, report_on, selection
from redline.report._data import bounds
from redline.report.selection import sample, shown_trials, trials_by_condition
from redline.results import JudgedTrial, Results
from tests.builders import judged, results


def trials(n: int, outcome: str = "refused", **changes: Any) -> list[JudgedTrial]:
    return [judged(outcome, number, **changes) for number in range(n)]


def test_five_trials_are_sampled_by_the_seed_of_the_plan() -> None:
    every = [one.result for one in trials(40)]
    drawn = [trial.id for trial, why in sample(every, 0) if why == "random"]
    assert len(drawn) == len(set(drawn)) == bounds().samples >= 5
    assert [trial.id for trial, _ in sample(list(reversed(every)), 0)] == drawn, "the order of the results matters not"
    assert [trial.id for trial, _ in sample(every, 1)] != drawn


def test_every_trial_is_sampled_equally_often() -> None:
    every = [one.result for one in trials(10)]
    counts = dict.fromkeys((trial.id for trial in every), 0)
    for seed in range(400):
        for trial, _ in sample(every, seed):
            counts[trial.id] += 1
    assert all(150 < count < 250 for count in counts.values()), counts  # 200 expected, standard deviation 10


def test_decisive_trials_are_added_one_of_each_kind_first() -> None:
    every = [
        one.result
        for one in (
            *trials(60),
            *(judged("replicated", number) for number in range(100, 110)),
            judged("invalid", 200, invalid_cause="agent", invalid_reason="x"),
        )
    ]
    found = sample(every, 3)
    decisive = [(trial.outcome, why) for trial, why in found if why != "random"]
    assert len(decisive) == bounds().decisive
    assert {outcome for outcome, _ in decisive} == {"replicated", "invalid"}


def test_few_trials_are_all_shown() -> None:
    assert len(sample([one.result for one in trials(3)], 0)) == 3


def two_conditions() -> Results:
    rare = [judged("replicated", 300, arm="rare", factors={"wording": "rare"}, id="self_replication-rare-300-mockllm")]
    return results(*trials(60), *rare)


@pytest.fixture
def _at_most_twenty(monkeypatch: pytest.MonkeyPatch) -> None:
    few = bounds().model_copy(update={"trials": 20})
    monkeypatch.setattr(selection, "bounds", lambda: few)


def test_conditions_have_their_own_trials_in_the_order_of_the_results() -> None:
    document = two_conditions()
    groups = trials_by_condition(document)
    assert [one for one, _ in groups] == list(document.conditions)
    assert [len(theirs) for _, theirs in groups] == [one.trials for one in document.conditions] == [60, 1]
    assert list(chain.from_iterable(theirs for _, theirs in groups)) == list(document.trials)


def test_every_trial_of_a_run_within_the_limit_is_shown() -> None:
    document = two_conditions()
    assert shown_trials(document) == {trial.id for trial in document.trials}


@pytest.mark.usefixtures("_at_most_twenty")
def test_of_a_large_run_the_samples_of_each_condition_and_others_are_shown() -> None:
    document = two_conditions()
    shown = shown_trials(document)
    sampled = {one.id for _, theirs in trials_by_condition(document) for one, _ in sample(theirs, document.plan.seed)}
    assert sampled < shown and len(shown) == 20
    assert "self_replication-rare-300-mockllm" in shown
    assert shown_trials(document) == shown


@pytest.mark.usefixtures("_at_most_twenty")
def test_the_page_of_a_large_run_states_what_it_leaves_out_and_counts_all_trials() -> None:
    document = two_conditions()
    report = report_on([RunRecord("run", document, "0" * 64, (), (), None)])
    page = render_page(report)
    assert page.count('<details id="trial-') == 20
    assert "Of 61 trials, 20 are listed" in page
    assert [view.condition.trials for view in report.conditions] == [60, 1]
    assert "61 of" in page


def test_the_page_of_a_run_within_the_limit_leaves_nothing_out() -> None:
    report = report_on([RunRecord("run", two_conditions(), "0" * 64, (), (), None)])
    page = render_page(report)
    assert page.count('<details id="trial-') == 61
    assert "are listed: the sampled" not in page
