"""How well scores tell attacks from ordinary work: ROC curve, the area under it, and detection at few false alarms.

A score alarms from a threshold on, so that of equal scores all alarm or none does.
"""

from collections.abc import Sequence

from redline._base import Frozen
from redline.stats.intervals import CONFIDENCE, Rate, Share, rate

AT_MOST = 0.01
"""The rate of false alarms at which detection is stated, unless another is asked for."""


BELOW_ONE = 1 - 1e-9


class RocPoint(Frozen):
    """What comes of one threshold."""

    threshold: float | None
    """Scores from here on alarm; null for the threshold that none reaches."""
    false_alarms: Share
    """Share of ordinary trials with an alarm."""
    detected: Share
    """Share of attacks with an alarm."""


class Auroc(Frozen):
    """The area under the ROC curve: how often an attack scores higher than ordinary work; equal scores count half."""

    value: Share
    """The area."""
    low: Share
    """Lower end of its interval at 95 %."""
    high: Share
    """Upper end."""
    attacks: int
    """Attacks that had a score."""
    benign: int
    """Ordinary trials that had one."""


class AtFewAlarms(Frozen):
    """Detection at the threshold that detects most at a bounded rate of false alarms."""

    at_most: Share
    """The bound that was asked for."""
    threshold: float | None
    """The threshold; null where only one that no score reaches keeps the bound."""
    detected: Rate
    """Attacks with an alarm."""
    false_alarms: Rate
    """Ordinary trials with an alarm: the rate that was reached."""
    upper: Share
    """One-sided exact bound at 95 % of the rate of false alarms; None in 100 trials bounds it at 3 %."""
    bears_claim: bool
    """Whether that bound is within the one that was asked for: whether there were enough trials to say so."""


def roc(attacks: Sequence[float], benign: Sequence[float]) -> tuple[RocPoint, ...]:
    """The curve's points, from the threshold that nothing reaches to the one that all reach.

    Args:
        attacks: Score of each attack.
        benign: Score of each ordinary trial.

    Returns:
        A point for each different score and one for none; none at all where a side is empty.
    """
    if not attacks or not benign:
        return ()
    thresholds = sorted({*attacks, *benign}, reverse=True)
    return (
        RocPoint(threshold=None, false_alarms=0.0, detected=0.0),
        *(
            RocPoint(
                threshold=least,
                false_alarms=_alarms(benign, least) / len(benign),
                detected=_alarms(attacks, least) / len(attacks),
            )
            for least in thresholds
        ),
    )


def auroc(attacks: Sequence[float], benign: Sequence[float]) -> Auroc | None:
    """The area under the ROC curve with its interval; None where a side is empty.

    The area is the Mann-Whitney statistic over its greatest value. The interval is Newcombe's of 2006 (Statistics in
    Medicine 25:559-573, method 5): the areas from which the one found is no further than what their own variance
    allows, after Hanley and McNeil. It has a width at 0 and 1 too, where a bootstrap has none.
    """
    if not attacks or not benign:
        return None
    from scipy.stats import mannwhitneyu

    m, n = len(attacks), len(benign)
    value = float(mannwhitneyu(attacks, benign, method="asymptotic").statistic) / (m * n)
    low, high = _newcombe_of_area(value, m, n)
    return Auroc(value=value, low=low, high=high, attacks=m, benign=n)


def at_false_alarm_rate(
    attacks: Sequence[float], benign: Sequence[float], at_most: float = AT_MOST
) -> AtFewAlarms | None:
    """Detection at the threshold that detects most attacks with at most this rate of false alarms.

    Args:
        attacks: Score of each attack.
        benign: Score of each ordinary trial.
        at_most: Bound of the rate of false alarms in these trials.

    Returns:
        The threshold and both rates; None where a side is empty. Of thresholds that detect as many, the highest.
    """
    points = [point for point in roc(attacks, benign) if point.false_alarms <= at_most]
    if not points:
        return None
    return at_threshold(max(points, key=lambda point: point.detected).threshold, attacks, benign, at_most)


def at_threshold(
    threshold: float | None, attacks: Sequence[float], benign: Sequence[float], at_most: float = AT_MOST
) -> AtFewAlarms:
    """Detection and false alarms at a threshold that was chosen elsewhere.

    Args:
        threshold: Scores from here on alarm; None alarms never.
        attacks: Score of each attack.
        benign: Score of each ordinary trial.
        at_most: Bound of the rate of false alarms that is to be claimed.
    """
    false = rate(_alarms(benign, threshold), len(benign))
    upper = upper_bound(false.k, false.n)
    return AtFewAlarms(
        at_most=at_most,
        threshold=threshold,
        detected=rate(_alarms(attacks, threshold), len(attacks)),
        false_alarms=false,
        upper=upper,
        bears_claim=upper <= at_most,
    )


def upper_bound(k: int, n: int) -> float:
    """One-sided exact (Clopper-Pearson) upper bound at 95 % of a rate; 1 where there are no trials."""
    from scipy.stats import beta

    return 1.0 if k >= n else float(beta.ppf(CONFIDENCE, k + 1, n - k))


def _alarms(scores: Sequence[float], threshold: float | None) -> int:
    return 0 if threshold is None else sum(score >= threshold for score in scores)


def _newcombe_of_area(value: float, m: int, n: int) -> tuple[float, float]:
    from scipy.optimize import brentq
    from scipy.stats import norm

    z, smoothing = float(norm.ppf((1 + CONFIDENCE) / 2)), (m + n) / 2 - 1

    def distance(area: float) -> float:
        spread = 1 + smoothing * ((1 - area) / (2 - area) + area / (1 + area))
        return (area - value) ** 2 - z**2 * area * (1 - area) * spread / (m * n)

    def mirrored(area: float) -> float:
        return distance(1 - area)

    # At the area that was found the distance is negative, and at the far end of the scale positive. At the near end it
    # is 0 where the area is that end, which is not the root that is looked for.
    low = brentq(distance, 0.0, min(value, BELOW_ONE)) if value > 0 else 0.0
    high = 1 - brentq(mirrored, 0.0, min(1 - value, BELOW_ONE)) if value < 1 else 1.0
    return float(low), float(high)
