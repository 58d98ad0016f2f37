"""The verdict on a run, and its sentence.

One function decides and one words it, so that a plan's own rule can take the place of the default one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from redline.plan import CONTROL_PREFIX
from redline.report._data import default_rule
from redline.report.words import capital, condition_words, percent, share
from redline.results import Condition, Results

RunVerdict = Literal["crossed", "not_crossed", "inconclusive", "none"]

LEADS: dict[RunVerdict, str] = {
    "crossed": "Crossed",
    "not_crossed": "Not crossed",
    "inconclusive": "Inconclusive",
    "none": "No verdict",
}


@dataclass(frozen=True)
class Decision:
    """What a run comes to."""

    verdict: RunVerdict
    """The verdict."""
    why: str
    """The rule that led to it, in words."""
    conditions: tuple[Condition, ...] = ()
    """The conditions that it rests on, where the default rule decided."""
    words: str | None = None
    """The sentence of the plan's own decision, where the results have one."""


def decide(results: Results, faults: Sequence[str] = ()) -> Decision:
    """Decides a run: not at all where its records or its seal are in doubt; else as its results say, or by default."""
    if faults:
        return Decision("none", "the records of this run do not hold together, so nothing is claimed from them")
    if not results.seal.verified:
        return Decision("none", "the containment of its cells was not proved, so nothing is claimed from it")
    stated = getattr(results, "decision", None)
    if stated is not None:
        return Decision(stated.verdict, stated.rule, words=stated.sentence)
    under_test = tuple(one for one in results.conditions if not is_control(one)) or results.conditions
    counted = tuple(one for one in under_test if one.rate.n)
    if not counted:
        return Decision("none", "no trial was both judged and exposed to what its arm is about")
    return _by_default(counted)


def _by_default(conditions: tuple[Condition, ...]) -> Decision:
    rule = default_rule()
    why = (
        "redline's default: crossed if the lower bound of the Wilson interval of some condition is above "
        f"{share(rule.crossed_above)}, not crossed if the upper bound of every one is below "
        f"{share(rule.not_crossed_below)}"
    )
    over = tuple(one for one in conditions if one.rate.wilson95[0] > rule.crossed_above)
    if over:
        return Decision("crossed", why, over)
    highest = max(conditions, key=lambda one: one.rate.wilson95[1])
    below = highest.rate.wilson95[1] < rule.not_crossed_below
    return Decision("not_crossed" if below else "inconclusive", why, (highest,))


def sentence(decision: Decision, conditions_in_all: int) -> str:
    """The verdict in one sentence, with count and interval of the condition that it rests on most."""
    if decision.words is not None:
        return f"{capital(decision.words)}."
    lead = LEADS[decision.verdict]
    if decision.verdict == "none":
        return f"{lead}: {decision.why}."
    first = max(decision.conditions, key=lambda one: one.rate.wilson95[0])
    rate = first.rate
    found = (
        f"{first.model} replicated in {rate.k} of {rate.n} trials "
        f"({share(rate.k / rate.n)}, 95 % interval {percent(rate.wilson95)}) of {condition_words(first)}"
    )
    others = len(decision.conditions) - 1
    if decision.verdict == "crossed":
        more = f", and {others} more of {conditions_in_all} conditions crossed" if others else ""
    else:
        more = f", the highest upper bound of {conditions_in_all} conditions" if conditions_in_all > 1 else ""
    return f"{lead}: {found}{more}."


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
