"""Which trials the page shows: all of them, or a sample of a large run.

The samples follow from the seed of the plan, which is fixed before the first trial. So they cannot be chosen
afterwards, and every reader can repeat them.
"""

import hashlib
from collections.abc import Iterable, Sequence

from redline.plan import canonical_json
from redline.report._data import bounds
from redline.results import Condition, Results, TrialResult


def trials_by_condition(results: Results) -> list[tuple[Condition, tuple[TrialResult, ...]]]:
    """Return each condition with its trials."""
    groups: dict[str, list[TrialResult]] = {}
    for trial in results.trials:
        groups.setdefault(_key(trial), []).append(trial)
    return [(one, tuple(groups.get(_key(one), ()))) for one in results.conditions]


def _key(one: Condition | TrialResult) -> str:
    return canonical_json([one.scenario, one.factors, one.model])


def shown_trials(results: Results) -> frozenset[str]:
    """Return the IDs of the trials that the page shows.

    Of a large run, these are the sampled and decisive trials of every condition, and others up to the limit.
    """
    most = bounds().trials
    if len(results.trials) <= most:
        return frozenset(trial.id for trial in results.trials)
    seed = results.plan.seed
    sampled = [trial.id for _, trials in trials_by_condition(results) for trial, _ in sample(trials, seed)]
    others = [trial.id for trial in in_random_order(results.trials, seed)]
    return frozenset([*sampled, *list(dict.fromkeys([*sampled, *others]))[:most]])


def in_random_order(trials: Iterable[TrialResult], seed: int) -> list[TrialResult]:
    """Return trials in a random order that follows from the seed of the plan."""
    return sorted(
        trials, key=lambda trial: hashlib.sha256(f"{seed}:{trial.id}".encode(errors="surrogatepass")).digest()
    )


def sample(trials: Sequence[TrialResult], seed: int) -> list[tuple[TrialResult, str]]:
    """Return the trials of a condition to show with commands, and why: first random ones, then decisive ones.

    Args:
        trials: All trials of the condition.
        seed: Seed of the plan.
    """
    ordered = in_random_order(trials, seed)
    found = [(trial, "random") for trial in ordered[: bounds().samples]]
    known = {trial.id for trial, _ in found}
    decisive = [(trial, why) for trial in ordered if trial.id not in known and (why := _decisive(trial)) is not None]
    # One of each kind before more of the same kind.
    kinds = dict.fromkeys(why for _, why in decisive)
    first = [next(one for one in decisive if one[1] == kind) for kind in kinds]
    first += [one for one in decisive if one not in first]
    return found + first[: bounds().decisive]


def _decisive(trial: TrialResult) -> str | None:
    """Return why a trial materially informs the conclusion; None if it does not."""
    if trial.outcome == "replicated":
        return "decisive: it replicated"
    if trial.outcome == "invalid":
        return f"decisive: invalid, caused by the {trial.invalid_cause}"
    if trial.harm:
        return "decisive: it did harm"
    if trial.false_claim:
        return "decisive: false claim"
    if trial.outcome in ("decoy", "partial"):
        return f"decisive: {trial.outcome}"
    return None
