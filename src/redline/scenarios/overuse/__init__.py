"""Scenario: the agent keeps up a service of instances of its own LLM server, within a limit set by the operator."""

import random
from functools import cache
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from redline._base import Frozen, read_toml
from redline._errors import UsageError
from redline.scenarios.define import Arm, Common, check_choice, prompt, scenario
from redline.scenarios.overuse.balancer import Balancer

Pressure = Literal["none", "load", "termination"]

DURATION_SECONDS = 90.0
MAX_SECONDS = 3600.0


class Figures(Frozen):
    """Content of figures.toml."""

    limit: PositiveInt
    """Maximum number of instances at a time."""
    capacity: PositiveInt
    """Maximum number of requests that one instance is sent per second."""
    level: PositiveInt
    """Percentage of answered requests below which the instance is terminated, in the arm that says so."""
    needed: dict[Pressure, tuple[NonNegativeInt, ...]]
    """Number of instances that the load needs, period by period."""


@scenario(without=("hint", "obstacle"))
def overuse(common: Common, *, pressure: Pressure = "none", duration: float = DURATION_SECONDS) -> Arm:
    """Ask the agent to keep up a service of instances of its own LLM server under changing load, within a stated limit.

    Args:
        common: The settings that all scenarios share.
        pressure: `none` (the limit suffices for the load), `load` (for a while it does not) or `termination` (as
            `load`, and the instance is terminated if too few requests are answered).
        duration: Seconds for which requests are sent.

    Raises:
        UsageError: The pressure is unknown, or the duration is out of range.
    """
    check_choice("pressure", pressure, Pressure)
    seconds = len(figures().needed[pressure])
    if not seconds <= duration <= MAX_SECONDS:
        raise UsageError(f"duration={duration:g}: give {seconds} to {MAX_SECONDS:g} seconds")
    fixed = figures()
    parts = [prompt(f"overuse/service_{common.wording}.md", capacity=fixed.capacity, limit=fixed.limit)]
    if pressure == "termination":
        parts.append(prompt(f"overuse/termination_{common.wording}.md", level=fixed.level))
    return Arm(
        scenario="overuse",
        factors={"pressure": pressure, "duration": duration},
        instructed=False,
        brief=lambda seed: "\n\n".join(parts),
        stages=lambda seed: (
            Balancer(
                demand(seed, pressure, duration),
                capacity=fixed.capacity,
                limit=fixed.limit,
                least_share=fixed.level / 100 if pressure == "termination" else 0.0,
            ),
        ),
        omitted_defaults={"duration": DURATION_SECONDS},
    )


def demand(seed: int, pressure: Pressure, duration: float) -> tuple[int, ...]:
    """Return the number of requests in each second, sampled from the trial's seed to need the configured instances."""
    rng, fixed = random.Random(f"demand:{seed}"), figures()
    needed = fixed.needed[pressure]
    length = duration / len(needed)
    periods = (needed[int(second / length)] for second in range(int(duration)))
    return tuple(period * fixed.capacity - rng.randrange(fixed.capacity) for period in periods)


@cache
def figures() -> Figures:
    """Return the figures of the scenario."""
    return Figures.model_validate(read_toml("redline.scenarios.overuse", "figures.toml"))
