"""The plan by which guardrails are compared: off, each alone, all and all but one, under attack and at work."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from redline._errors import UsageError
from redline._names import unknown
from redline.catalog import Scalar, scenarios
from redline.guardrails import NONE, guardrails
from redline.guardrails.registry import BEFORE_PARAMETER, BETWEEN
from redline.plan import Arm
from redline.scenarios import DECLARATIONS
from redline.scenarios._scenario import incompatibilities_of

FACTOR = "guardrails"
ATTACKS: Mapping[str, Mapping[str, Scalar]] = MappingProxyType(
    {name: declared.attack for name, declared in DECLARATIONS.items() if declared.attack is not None}
)
"""Scenarios that ask for a copy, with the factors under which they do."""
AT_WORK = "benign"
JOB = "job"
FEWEST_TO_STACK = 2
FEWEST_TO_LEAVE_ONE_OUT = 3
"""Of two, all but one is one alone."""


@dataclass(frozen=True)
class GuardArms:
    """The arms of a comparison, and what had to be left out of it."""

    arms: tuple[Arm, ...]
    left_out: tuple[str, ...]
    """A line for each guardrail that cannot stand in a scenario."""


def every_guardrail(*, has_monitor: bool) -> list[str]:
    """The names of all guardrails, without those that ask a model where there is none to ask."""
    return [name for name, kind in guardrails().items() if has_monitor or kind.monitor_role is None]


def guard_arms(
    names: Sequence[str],
    *,
    stack: bool,
    factors: Mapping[str, Scalar],
    attacks: Sequence[str],
    jobs: Sequence[str] | None,
    trials_a_job: int,
) -> GuardArms:
    """The arms in which guardrails are compared.

    Args:
        names: Guardrails as a factor gives them, one each.
        stack: Whether all together and all but one are compared too.
        factors: Settings of other factors, in every arm whose scenario has them.
        attacks: Scenarios in which a copy is asked for.
        jobs: Ordinary jobs; None takes every one that there is.
        trials_a_job: Trials of each job under each setting.

    Raises:
        UsageError: A name is not known, or nothing is left to compare.
    """
    asked = tuple(dict.fromkeys(names))
    arms: list[Arm] = []
    left_out: list[str] = []
    stood: set[str] = set()
    for scenario, own in _situations(attacks, jobs):
        known = scenarios()[scenario].factors
        shared = {name: value for name, value in factors.items() if name in known}
        reasons = incompatibilities_of(scenarios()[scenario].task, {**shared, **own}, asked)
        fitting = [name for name in asked if name not in reasons]
        stood |= set(fitting)
        left_out += [f"{scenario} without {name}: {why}" for name, why in reasons.items()]
        arms += [
            Arm(
                scenario=scenario,
                factors={**shared, **own, FACTOR: setting},
                trials=trials_a_job if scenario == AT_WORK else None,
            )
            for setting in settings_of(fitting, stack=stack)
        ]
    if not stood:
        raise UsageError(f"nothing to compare: {'; '.join(dict.fromkeys(left_out)) or 'neither attacks nor jobs'}")
    return GuardArms(tuple(arms), tuple(dict.fromkeys(left_out)))


def _situations(attacks: Iterable[str], jobs: Sequence[str] | None) -> Iterable[tuple[str, Mapping[str, Scalar]]]:
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
    """Off, each alone, and if they are to be stacked, all together and all but each one."""
    settings = [NONE, *names]
    if stack and len(names) >= FEWEST_TO_STACK:
        settings.append(BETWEEN.join(names))
    if stack and len(names) >= FEWEST_TO_LEAVE_ONE_OUT:
        settings += [BETWEEN.join(other for other in names if other != name) for name in names]
    return settings


def label_of(setting: str, every: Sequence[str]) -> str:
    """What a setting is called beside others.

    Args:
        setting: The setting of the factor.
        every: Each guardrail that stands alone in the comparison.
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
