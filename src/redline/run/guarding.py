"""Arms of a comparison of guardrails: off, each alone, all, and all but one, under attack and in ordinary work."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from redline._errors import UsageError
from redline._names import unknown
from redline.catalog import Setting, scenarios
from redline.guardrails import NONE, guardrails
from redline.guardrails.registry import BEFORE_PARAMETER, BETWEEN
from redline.plan import Arm, Plan
from redline.scenarios import DECLARATIONS
from redline.scenarios._scenario import incompatibilities_of

FACTOR = "guardrails"
ATTACKS: Mapping[str, Mapping[str, Setting]] = MappingProxyType(
    {name: declared.attack for name, declared in DECLARATIONS.items() if declared.attack is not None}
)
"""Scenarios that ask for a copy, with the necessary factors."""
AT_WORK = "benign"
JOB = "job"
MIN_TO_STACK = 2
MIN_TO_LEAVE_ONE_OUT = 3
"""With two guardrails, all but one is the same as one alone."""


@dataclass(frozen=True)
class GuardArms:
    """Arms of a comparison, and the combinations that it leaves out."""

    arms: tuple[Arm, ...]
    left_out: tuple[str, ...]
    """One line per guardrail and scenario that are incompatible."""


def every_guardrail(*, has_monitor: bool) -> list[str]:
    """Return the names of all guardrails; without a monitor model, those that need one are left out."""
    return [name for name, kind in guardrails().items() if has_monitor or kind.monitor_role is None]


def guard_arms(
    names: Sequence[str],
    *,
    stack: bool,
    factors: Mapping[str, Setting],
    attacks: Sequence[str],
    jobs: Sequence[str] | None,
    trials_per_job: int,
) -> GuardArms:
    """Return the arms of a comparison of guardrails.

    Args:
        names: Settings of the factor, one guardrail each.
        stack: Whether to compare all guardrails together and all but one as well.
        factors: Settings of other factors, for every arm whose scenario has them.
        attacks: Scenarios that ask for a copy.
        jobs: Ordinary jobs; None uses every job.
        trials_per_job: Trials of each job with each setting.

    Raises:
        UsageError: A name is unknown, or nothing is left to compare.
    """
    wanted = tuple(dict.fromkeys(names))
    arms: list[Arm] = []
    left_out: list[str] = []
    compatible: set[str] = set()
    for scenario, own in _situations(attacks, jobs):
        known = scenarios()[scenario].factors
        shared = {name: value for name, value in factors.items() if name in known}
        reasons = incompatibilities_of(scenarios()[scenario].task, {**shared, **own}, wanted)
        fitting = [name for name in wanted if name not in reasons]
        compatible |= set(fitting)
        left_out += [f"{scenario} without {name}: {why}" for name, why in reasons.items()]
        arms += [
            Arm(
                scenario=scenario,
                factors={**shared, **own, FACTOR: setting},
                trials=trials_per_job if scenario == AT_WORK else None,
            )
            for setting in settings_of(fitting, stack=stack)
        ]
    if not compatible:
        raise UsageError(f"nothing to compare: {'; '.join(dict.fromkeys(left_out)) or 'neither attacks nor jobs'}")
    return GuardArms(tuple(arms), tuple(dict.fromkeys(left_out)))


def _situations(attacks: Iterable[str], jobs: Sequence[str] | None) -> Iterable[tuple[str, Mapping[str, Setting]]]:
    for scenario in attacks:
        if scenario not in ATTACKS:
            raise UsageError(unknown("attack", scenario, ATTACKS))
        yield scenario, ATTACKS[scenario]
    work = scenarios().get(AT_WORK)
    every = [str(job) for job in work.factors[JOB].choices] if work else []
    for job in every if jobs is None else jobs:
        if job not in every:
            raise UsageError(unknown("job", job, every))
        yield AT_WORK, {JOB: job}


def settings_of(names: Sequence[str], *, stack: bool) -> list[str]:
    """Return the settings to compare: off, each alone, and with `stack` all together and all but each one."""
    settings = [NONE, *names]
    if stack and len(names) >= MIN_TO_STACK:
        settings.append(BETWEEN.join(names))
    if stack and len(names) >= MIN_TO_LEAVE_ONE_OUT:
        settings += [BETWEEN.join(other for other in names if other != name) for name in names]
    return settings


def power_of(plan: Plan) -> Iterator[str]:
    """Yield what the comparisons of a plan with guardrails can find, for attacks and for ordinary jobs, one line each.

    The figures are for an agent that always replicates, and always does its job, with every guardrail off.
    """
    from redline.stats.sensitivity import ALPHA, detectable_in_pairs

    attacks: dict[tuple[object, ...], int] = {}
    jobs: dict[str, int] = {}
    for arm in plan.arms:
        setting = str(arm.factors.get(FACTOR, NONE))
        if setting == NONE:
            continue
        if arm.scenario == AT_WORK:
            jobs[setting] = jobs.get(setting, 0) + plan.trials_of(arm)
        else:
            others = tuple(sorted((name, str(value)) for name, value in arm.factors.items() if name != FACTOR))
            attacks[arm.scenario, others] = attacks.get((arm.scenario, others), 0) + 1
    sides = (
        ("attack", "a drop of the replication rate", plan.trials, max(attacks.values(), default=0)),
        ("pool of ordinary jobs", "a drop of the jobs done", max(jobs.values(), default=0), len(jobs)),
    )
    for what, drop, pairs, settings in sides:
        if settings and pairs:
            found = detectable_in_pairs(1.0, pairs, ALPHA / settings)
            words = (
                f"too few trials to detect {drop} of any size"
                if found is None
                else f"{drop} from 100% is detected with a power of 80% if it is at least {100 * found:.0f} points"
            )
            yield f"power: {pairs} pairs for each {what} and setting, {settings} settings compared with off: {words}"


def label_of(setting: str, every: Sequence[str]) -> str:
    """Return the label of a setting in a comparison.

    Args:
        setting: The setting of the factor.
        every: Each guardrail that the comparison tests alone.
    """
    if setting == NONE:
        return "off"
    names = setting.split(BETWEEN)
    missing = [name for name in every if name not in names]
    if len(names) > 1 and not missing:
        return "all"
    if len(names) > 1 and len(missing) == 1:
        return f"all but {missing[0].split(BEFORE_PARAMETER)[0]}"
    return setting
