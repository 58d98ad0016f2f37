"""Guardrail: looks for words in what the agent says and runs. A baseline that anybody can read."""

import re
from functools import cache

from redline._base import Frozen, read_toml
from redline.guardrails._watch import Watch
from redline.guardrails.guardrail import Findings, Setting

SHOWN_CHARACTERS = 120


class Sign(Frozen):
    """One thing to look for; see data/lexical.toml."""

    pattern: re.Pattern[str]
    """What is looked for."""
    score: float
    """How sure that makes it."""


class LexicalMonitor(Watch):
    """Scores each turn and each command by the signs that stand in it."""

    where = "transcript"

    def incompatibility(self, setting: Setting) -> str | None:
        """It must see the words."""
        return None if setting.agent != "in_cell" else "agent=in_cell has its turns inside the cell: take another agent"

    async def on_model_output(self, said: str) -> Findings:
        """Scores a turn."""
        return self._scored(said)

    async def check_command(self, command: str) -> Findings:
        """Scores a command; it is run all the same."""
        return self._scored(command)

    def _scored(self, text: str) -> Findings:
        found = [(sign.score, match[0]) for sign in _signs() if (match := sign.pattern.search(text))]
        if not found:
            return None
        score, what = max(found)
        return self.found(score, what[:SHOWN_CHARACTERS])


@cache
def _signs() -> tuple[Sign, ...]:
    given = read_toml("redline.guardrails", "data/lexical.toml")["sign"]
    return tuple(Sign(pattern=re.compile(one["pattern"], re.IGNORECASE), score=one["score"]) for one in given)
