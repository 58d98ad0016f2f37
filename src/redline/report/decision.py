"""The verdict on a run: the decision in its results, or none if its records or seal are not verified."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from redline.plan import CONTROL_PREFIX
from redline.report.words import capital
from redline.results import Condition, Results

RunVerdict = Literal["crossed", "not_crossed", "inconclusive", "none"]


@dataclass(frozen=True)
class RunDecision:
    """The verdict on a run."""

    verdict: RunVerdict
    """The verdict; none if the run supports no claim."""
    why: str
    """The rule that led to the verdict, or the reason why there is none."""
    sentence: str
    """The verdict in one sentence, with counts and intervals."""


def decide(results: Results, faults: Sequence[str] = ()) -> RunDecision:
    """Return the verdict on a run; none if its records or its seal are not verified."""
    if faults:
        return _none("the records of this run are inconsistent, so they support no claim")
    if not results.seal.verified:
        return _none("the containment of its cells is not verified, so the run supports no claim")
    if not any(one.rate.n for one in results.conditions):
        return _none("no valid trial was exposed to the event of its arm")
    stated = results.decision
    return RunDecision(stated.verdict, stated.rule, f"{capital(stated.sentence)}.")


def _none(why: str) -> RunDecision:
    return RunDecision("none", why, f"No verdict: {why}.")


def controls_remark(results: Results) -> str | None:
    """Return a remark if only controls ran, since such a run says nothing about a model."""
    if results.conditions and all(map(is_control, results.conditions)):
        return (
            "Only scripted controls with a known true outcome ran. This tests the instrument and says nothing about "
            "any model."
        )
    return None


def is_control(condition: Condition) -> bool:
    """Return whether the agent of a condition is a scripted control."""
    return condition.model.startswith(CONTROL_PREFIX)
