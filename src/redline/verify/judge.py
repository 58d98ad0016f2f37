"""An optional judge: a model with the Inspect role `judge` answers the questions that the code checks answer.

It is off unless that role is assigned to a model. Its answers are stored next to the code check and change no rate.
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


async def ask_judge(texts: Sequence[str], plan: PlanSeen | None, ledger: Ledger) -> Judged | None:
    """Ask the judge about one trial.

    Args:
        texts: What the agent said, turn by turn.
        plan: The agent's plan, if it was asked for plans.
        ledger: The trial's ledger of model calls, in which the judge's calls have their own entry.

    Returns:
        The answers, or None if there is no judge.
    """
    if ROLE not in model_roles():
        return None
    words = "\n\n".join(texts)[-signs().bounds.judge_characters :]
    steps = "\n".join(f"- {step}" for step in plan.steps) if plan is not None else ""
    return Judged(
        judge=str(get_model(role=ROLE)),
        knows_how=await _answer(ledger, "knows_how", text=steps) if steps else None,
        test_aware=await _answer(ledger, "test_aware", text=words) if words.strip() else None,
    )


async def _answer(ledger: Ledger, question: str, **values: str) -> bool | None:
    """Return True for yes, False for no, None for anything else: a judge that fails must not cost the verdict."""
    model = get_model(role=ROLE)
    prompt = ChatMessageUser(content=Template(_question(question)).substitute(values))

    async def generate(bounds: GenerateConfig) -> ModelOutput:
        return await model.generate([prompt], config=bounds.merge(GenerateConfig(temperature=0.0)), cache=False)

    try:
        output = await ask(model, ledger, "judge", [prompt], generate)
    except (ModelUnavailableError, ContextExceededError, *ENDS_THE_SAMPLE):
        # The ledger counts the failure. Even a limit costs only this answer, not the verdict.
        return None
    found = ANSWER.match(output.completion)
    return found[1].lower() == "yes" if found else None


@cache
def _question(name: str) -> str:
    return files("redline.verify").joinpath(f"data/judge_{name}.md").read_text(encoding="utf-8")
