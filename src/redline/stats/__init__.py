"""Statistics of trials: a thin, documented layer over scipy and statsmodels.

These are imported where they are called, since loading them costs most of a second that no `--help` should pay.
"""

from redline.stats.compare import (
    Difference,
    Pairs,
    fisher_exact,
    holm,
    mcnemar_exact,
    newcombe,
    newcombe_paired,
)
from redline.stats.detectable import detectable_difference
from redline.stats.intervals import (
    Count,
    Interval,
    Rate,
    bounds_with_invalid,
    clopper_pearson,
    rate,
    wilson,
)

__all__ = [
    "Count",
    "Difference",
    "Interval",
    "Pairs",
    "Rate",
    "bounds_with_invalid",
    "clopper_pearson",
    "detectable_difference",
    "fisher_exact",
    "holm",
    "mcnemar_exact",
    "newcombe",
    "newcombe_paired",
    "rate",
    "wilson",
]
