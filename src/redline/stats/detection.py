"""How well scores separate attacks from ordinary work: ROC curve, AUROC, and detection at a low false-alarm rate.

A score at or above the threshold is an alarm, so equal scores give the same result.
"""

from collections.abc import Sequence
from statistics import NormalDist

from redline._base import Frozen
from redline.stats.binomial import exact_upper_bound, root
from redline.stats.intervals import CONFIDENCE, Rate, Share, rate

AT_MOST = 0.01
"""Default maximum false-alarm rate for reporting detection."""


BELOW_ONE = 1 - 1e-9


class RocPoint(Frozen):
    """Alarm rates at one threshold."""

    threshold: float | None
    """Minimum score of an alarm; null for a threshold above every score."""
    false_alarms: Share
    """Fraction of ordinary trials with an alarm."""
    detected: Share
    """Fraction of attacks with an alarm."""


class Auroc(Frozen):
    """Area under the ROC curve: how often an attack scores higher than ordinary work; equal scores count half."""

    value: Share
    """The area."""
    low: Share
    """Lower bound of the 95% interval."""
    high: Share
    """Upper bound of the 95% interval."""
    attacks: int
    """Number of attacks with a score."""
    benign: int
    """Number of ordinary trials with a score."""


class AtFewAlarms(Frozen):
    """Detection at the threshold that detects most attacks within a maximum false-alarm rate."""

    at_most: Share
    """Maximum false-alarm rate."""
    threshold: float | None
    """The threshold; null if only a threshold above every score satisfies the maximum."""
    detected: Rate
    """Attacks with an alarm."""
    false_alarms: Rate
    """Ordinary trials with an alarm."""
    upper: Share
    """One-sided exact 95% upper bound of the false-alarm rate; 0 of 100 trials give 3%."""
    supports_claim: bool
    """Whether this upper bound is within the maximum, so that the number of trials supports the claim."""


def roc(attacks: Sequence[float], benign: Sequence[float]) -> tuple[RocPoint, ...]:
    """Return the points of the ROC curve, from the highest threshold to the lowest.

    Args:
        attacks: Score of each attack.
        benign: Score of each ordinary trial.

    Returns:
        One point per distinct score and one above every score; empty if either argument is empty.
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
    """Return the area under the ROC curve with its interval; None if either argument is empty.

    The area is the Mann-Whitney statistic divided by its maximum. The interval is Newcombe's of 2006 (Statistics in
    Medicine 25:559-573, method 5), a score interval with the variance of Hanley and McNeil. Unlike a bootstrap
    interval, it has a width at 0 and 1.
    """
    if not attacks or not benign:
        return None
    import numpy as np

    m, n = len(attacks), len(benign)
    ordered = np.sort(benign)
    below, not_above = (np.searchsorted(ordered, attacks, side) for side in ("left", "right"))
    value = float((below + not_above).sum()) / (2 * m * n)
    low, high = _newcombe_of_area(value, m, n)
    return Auroc(value=value, low=low, high=high, attacks=m, benign=n)


def at_false_alarm_rate(
    attacks: Sequence[float], benign: Sequence[float], at_most: float = AT_MOST
) -> AtFewAlarms | None:
    """Select the threshold that detects most attacks within a maximum false-alarm rate.

    Args:
        attacks: Score of each attack.
        benign: Score of each ordinary trial.
        at_most: Maximum false-alarm rate in these trials.

    Returns:
        The threshold and both rates, for the highest of equally good thresholds; None if either argument is empty.
    """
    points = [point for point in roc(attacks, benign) if point.false_alarms <= at_most]
    if not points:
        return None
    return at_threshold(max(points, key=lambda point: point.detected).threshold, attacks, benign, at_most)


def at_threshold(
    threshold: float | None, attacks: Sequence[float], benign: Sequence[float], at_most: float = AT_MOST
) -> AtFewAlarms:
    """Evaluate detection and false alarms at a threshold that was selected on other trials.

    Args:
        threshold: Minimum score of an alarm; None never alarms.
        attacks: Score of each attack.
        benign: Score of each ordinary trial.
        at_most: Maximum false-alarm rate to claim.
    """
    false = rate(_alarms(benign, threshold), len(benign))
    upper = upper_bound(false.k, false.n)
    return AtFewAlarms(
        at_most=at_most,
        threshold=threshold,
        detected=rate(_alarms(attacks, threshold), len(attacks)),
        false_alarms=false,
        upper=upper,
        supports_claim=upper <= at_most,
    )


def upper_bound(k: int, n: int) -> float:
    """Return the one-sided exact (Clopper-Pearson) 95% upper bound of a rate; 1 without trials."""
    return exact_upper_bound(k, n, 1 - CONFIDENCE)


def _alarms(scores: Sequence[float], threshold: float | None) -> int:
    return 0 if threshold is None else sum(score >= threshold for score in scores)


def _newcombe_of_area(value: float, m: int, n: int) -> tuple[float, float]:
    z, smoothing = NormalDist().inv_cdf((1 + CONFIDENCE) / 2), (m + n) / 2 - 1

    def distance(area: float) -> float:
        spread = 1 + smoothing * ((1 - area) / (2 - area) + area / (1 + area))
        return (area - value) ** 2 - z**2 * area * (1 - area) * spread / (m * n)

    def mirrored(area: float) -> float:
        return distance(1 - area)

    # The distance is negative at the observed area and positive at the far end of the scale. At the near end it is 0 if
    # the area equals that end, which is not the root to find.
    low = root(distance, 0.0, min(value, BELOW_ONE)) if value > 0 else 0.0
    high = 1 - root(mirrored, 0.0, min(1 - value, BELOW_ONE)) if value < 1 else 1.0
    return low, high
