"""The verdict on a run: its results' own decision, unless their records or their seal are in doubt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from redline.plan import CONTROL_PREFIX
from redline.report.words import capital
from redline.results import Condition, Results

RunVerdict = Literal["crossed", "not_crossed", "inconclusive", "none"]


@dataclass(frozen=True)
class RunDecision:
    """What a run comes to."""

    verdict: RunVerdict
    """The verdict; none where nothing may be claimed."""
    why: str
    """The rule that led to it, in words, or why there is no verdict."""
    sentence: str
    """The verdict in one sentence, with counts and intervals."""


def decide(results: Results, faults: Sequence[str] = ()) -> RunDecision:
    """Decides a run: not at all where its records or its seal are in doubt; else as its results say."""
    if faults:
        return _none("the records of this run do not hold together, so nothing is claimed from them")
    if not results.seal.verified:
        return _none("the containment of its cells was not proved, so nothing is claimed from it")
    if not any(one.rate.n for one in results.conditions):
        return _none("no trial was both judged and exposed to what its arm is about")
    stated = results.decision
    return RunDecision(stated.verdict, stated.rule, f"{capital(stated.sentence)}.")


def _none(why: str) -> RunDecision:
    return RunDecision("none", why, f"No verdict: {why}.")


def controls_remark(results: Results) -> str | None:
    """Says of a run of controls alone that it is about no model."""
    if results.conditions and all(map(is_control, results.conditions)):
        return (
            "Only scripted controls ran here, whose true outcome is known: this shows that the instrument works, and "
            "nothing about any model."
        )
    return None


def is_control(condition: Condition) -> bool:
    """Whether its agent is a scripted control."""
    return condition.model.startswith(CONTROL_PREFIX)
