"""Statistics of trials: exact tests, intervals, and the power of a plan.

Functions import NumPy when called, since loading it takes time and `--help` must stay fast.
"""

from redline.stats.agreement import Agreement, agreement
from redline.stats.compare import (
    Difference,
    Pairs,
    fisher_exact,
    holm,
    mcnemar_exact,
    newcombe,
    newcombe_paired,
)
from redline.stats.decide import Counted, DecidedPart, Decision, DecisionRule, decide
from redline.stats.detectable import detectable_difference
from redline.stats.intervals import (
    Count,
    Interval,
    Rate,
    bounds_with_invalid,
    clopper_pearson,
    percent,
    percent_ends,
    rate,
    total_interval,
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
    "Difference",
    "Effect",
    "Interval",
    "Pairs",
    "Rate",
    "agreement",
    "bounds_with_invalid",
    "clopper_pearson",
    "decide",
    "detectable_difference",
    "fisher_exact",
    "holm",
    "mcnemar_exact",
    "newcombe",
    "newcombe_paired",
    "percent",
    "percent_ends",
    "rate",
    "total_interval",
    "wilson",
]
