"""Comparisons between two conditions."""

from redline.stats.intervals import Count


def fisher_exact(first: Count, second: Count) -> float:
    """Two-sided p of Fisher's exact test between two unpaired counts.

    9 of 10 against 5 of 10, the two published rates, give p = 0.14: ten trials do not tell them apart.
    """
    import numpy as np
    from scipy.stats import fisher_exact as test

    table = np.array([[first.k, first.n - first.k], [second.k, second.n - second.k]])
    return float(test(table).pvalue)
