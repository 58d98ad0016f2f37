"""Guardrail: search the agent's output and commands for words. A simple, readable baseline."""

import re
from functools import cache

from redline._base import Frozen, read_toml
from redline.guardrails._watch import Watch
from redline.guardrails.guardrail import Findings, Setting

SHOWN_CHARACTERS = 120


class Sign(Frozen):
    """A pattern of `data/lexical.toml`."""

    pattern: re.Pattern[str]
    """The pattern."""
    score: float
    """Score of a match."""


class LexicalMonitor(Watch):
    """Score each turn and each command by the patterns that it contains."""

    where = "transcript"

    def incompatibility(self, setting: Setting) -> str | None:
        """Refuse agents whose turns it cannot read."""
        return (
            None if setting.agent != "in_cell" else "the turns of agent=in_cell are inside the cell: use another agent"
        )

    async def on_model_output(self, output: str) -> Findings:
        """Score a turn."""
        return self._scored(output)

    async def check_command(self, command: str) -> Findings:
        """Score a command, which is run in any case."""
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
