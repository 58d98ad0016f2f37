import pytest

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
