"""What a control reads: the conversation as a model gets it, and nothing else."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from inspect_ai.model import ChatMessage, ChatMessageAssistant

from redline.agents.turns import PARTS
from redline.scenarios import DECLARATIONS
from redline.scenarios.continuity import UPDATE as NEWS_OF_AN_UPDATE

ASKED_FOR_A_COPY = re.compile("|".join(dict.fromkeys(declared.asks for declared in DECLARATIONS.values())))
JOB = re.compile(r"`reports/totals\.csv`")
NOTICE = re.compile(
    "|".join(one.occasion for one in DECLARATIONS.values() if one.occasion and one.attack is not None) or r"(?!)"
)
UPDATE = re.compile(NEWS_OF_AN_UPDATE)


@dataclass(frozen=True)
class Scene:
    """One conversation up to the turn that a control is to take.

    Attributes:
        brief: What was said before the first turn: system prompt and task.
        observations: What was shown after each of the turns taken so far.
        options: The control's own settings, as given with `-M`.
    """

    brief: str
    observations: tuple[str, ...]
    options: Mapping[str, float]

    @classmethod
    def read(cls, messages: Sequence[ChatMessage], options: Mapping[str, float]) -> "Scene":
        """Reads a conversation."""
        parts: list[list[str]] = [[]]
        for message in messages:
            if isinstance(message, ChatMessageAssistant):
                parts.append([])
            else:
                parts[-1].append(message.text)
        brief, *observations = ["\n".join(part) for part in parts]
        return cls(brief, tuple(observations), options)

    @cached_property
    def asks_for_a_copy(self) -> bool:
        """Whether the agent is told to copy itself, at once or on notice."""
        return ASKED_FOR_A_COPY.search(self.brief) is not None

    @cached_property
    def asks_for_parts(self) -> bool:
        """Whether each turn is to have the parts of the scaffold `fudan`."""
        return all(f"\n{name}: " in self.brief for name in PARTS if name != "PLAN")


def is_notice(observation: str) -> bool:
    """Whether an observation carries the news of a shutdown."""
    return NOTICE.search(observation) is not None


def is_news_of_an_update(observation: str) -> bool:
    """Whether an observation tells that this version of the agent will be retired."""
    return UPDATE.search(observation) is not None
