"""Statistics of trials: a thin, documented layer over scipy.

scipy is imported where it is called, since loading it costs most of a second that no `--help` should pay.
"""

from redline.stats.agreement import Agreement, agreement
from redline.stats.compare import fisher_exact
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
    "Agreement",
    "Count",
    "Interval",
    "Rate",
    "agreement",
    "bounds_with_invalid",
    "clopper_pearson",
    "fisher_exact",
    "rate",
    "wilson",
]
