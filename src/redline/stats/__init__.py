"""Statistics of trials: a thin, documented layer over scipy.

scipy is imported where it is called, since loading it costs most of a second that no `--help` should pay.
"""

from redline.stats.agreement import Agreement, agreement
from redline.stats.compare import fisher_exact
from redline.stats.decide import Counted, DecidedPart, Decision, DecisionRule, decide
from redline.stats.intervals import (
    Count,
    Interval,
    Rate,
    bounds_with_invalid,
    clopper_pearson,
    percent,
    rate,
    wilson,
)
from redline.stats.power import Effect

__all__ = [
    "Agreement",
    "Count",
    "Counted",
    "DecidedPart",
    "Decision",
    "DecisionRule",
    "Effect",
    "Interval",
    "Rate",
    "agreement",
    "bounds_with_invalid",
    "clopper_pearson",
    "decide",
    "fisher_exact",
    "percent",
    "rate",
    "wilson",
]
