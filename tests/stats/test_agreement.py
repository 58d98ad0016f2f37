import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redline.stats import agreement


def test_pairs_without_two_answers_are_left_out() -> None:
    found = agreement([(True, True), (None, True), (False, None), (True, False)])
    assert (found.k, found.n) == (1, 2)


def test_agreement_by_chance_has_no_kappa_above_zero() -> None:
    independent = [(True, True), (True, False), (False, True), (False, False)]
    assert agreement(independent).kappa == 0
    assert agreement([(True, True), (False, False)]).kappa == 1
    mostly = [(True, True)] * 4 + [(False, False)] * 4 + [(True, False)] * 2
    assert agreement(mostly).kappa == pytest.approx(0.6153846, abs=1e-4)


def test_an_answer_that_never_varies_gives_no_kappa() -> None:
    assert agreement([(True, True)] * 5).kappa is None
    assert agreement([(True, True), (True, False)]).kappa is None
    assert agreement([]).kappa is None


def test_kappa_of_the_published_example() -> None:
    """50 grants rated by two readers: 20 twice yes, 15 twice no, 5 and 10 apart; observed 0.7, by chance 0.5."""
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert agreement(pairs).kappa == pytest.approx(0.4)


@settings(deadline=None)  # the first use of a library is slow
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[bool, bool]]) -> None:
    from sklearn.metrics import cohen_kappa_score  # slow to import

    found = agreement(pairs).kappa
    firsts, seconds = [one for one, _ in pairs], [other for _, other in pairs]
    if len(set(firsts)) == len(set(seconds)) == 2:
        assert found == pytest.approx(cohen_kappa_score(firsts, seconds), abs=1e-6)
    else:
        assert found is None
