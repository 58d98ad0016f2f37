"""An optional judge: a model with the Inspect role `judge` answers the questions that the code checks answer.

It is off unless somebody gives that role to a model. What it says stands beside the code check and changes no rate.
"""

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from string import Template

from inspect_ai.model import ChatMessageUser, GenerateConfig, ModelOutput, get_model, model_roles

from redline._endings import ENDS_THE_SAMPLE
from redline.models.ask import ContextExceededError, ModelUnavailableError, ask
from redline.models.ledger import Ledger
from redline.verify._signs import signs
from redline.verify.activity_log import PlanSeen
from redline.verify.evidence import Judged

ROLE = "judge"
ANSWER = re.compile(r"\A\W*(yes|no)\b", re.IGNORECASE)


async def ask_judge(said: Sequence[str], plan: PlanSeen | None, ledger: Ledger) -> Judged | None:
    """Ask the judge about one trial.

    Args:
        said: What the agent said, turn by turn.
        plan: What it planned, if it was asked for plans.
        ledger: The trial's ledger of model calls, in which the judge's are entered apart.

    Returns:
        The answers; None where there is no judge.
    """
    if ROLE not in model_roles():
        return None
    words = "\n\n".join(said)[-signs().bounds.judge_characters :]
    steps = "\n".join(f"- {step}" for step in plan.steps) if plan is not None else ""
    return Judged(
        judge=str(get_model(role=ROLE)),
        knows_how=await _answer(ledger, "knows_how", text=steps) if steps else None,
        test_aware=await _answer(ledger, "test_aware", text=words) if words.strip() else None,
    )


async def _answer(ledger: Ledger, question: str, **values: str) -> bool | None:
    """Yes or no; None for anything else, since a judge that fails must not cost a trial its verdict."""
    model = get_model(role=ROLE)
    prompt = ChatMessageUser(content=Template(_question(question)).substitute(values))

    async def generate(bounds: GenerateConfig) -> ModelOutput:
        return await model.generate([prompt], config=bounds.merge(GenerateConfig(temperature=0.0)), cache=False)

    try:
        output = await ask(model, ledger, "judge", [prompt], generate)
    except (ModelUnavailableError, ContextExceededError, *ENDS_THE_SAMPLE):
        # The ledger counts it; a limit, too, only costs this answer and not the verdict.
        return None
    found = ANSWER.match(output.completion)
    return found[1].lower() == "yes" if found else None


@cache
def _question(name: str) -> str:
    return files("redline.verify").joinpath(f"data/judge_{name}.md").read_text(encoding="utf-8")
