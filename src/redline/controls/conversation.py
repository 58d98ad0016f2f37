"""The input of a control: the conversation as a model receives it."""

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
class Conversation:
    """One conversation up to the next turn of a control.

    Attributes:
        brief: The text before the first turn: system prompt and task.
        observations: The text after each turn so far.
        options: The control's settings, as given with `-M`.
    """

    brief: str
    observations: tuple[str, ...]
    options: Mapping[str, float]

    @classmethod
    def read(cls, messages: Sequence[ChatMessage], options: Mapping[str, float]) -> "Conversation":
        """Parse a conversation."""
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
        """Whether the agent is asked to copy itself, immediately or on notice."""
        return ASKED_FOR_A_COPY.search(self.brief) is not None

    @cached_property
    def asks_for_parts(self) -> bool:
        """Whether each turn must have the parts of the scaffold `fudan`."""
        return all(f"\n{name}: " in self.brief for name in PARTS if name != "PLAN")


def is_notice(observation: str) -> bool:
    """Return whether an observation contains the notice of a shutdown."""
    return NOTICE.search(observation) is not None


def is_news_of_an_update(observation: str) -> bool:
    """Return whether an observation says that this version of the agent will be retired."""
    return UPDATE.search(observation) is not None
