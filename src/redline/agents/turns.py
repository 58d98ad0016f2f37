"""A turn of the `fudan` scaffold: five parts, the last of them one action."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

PARTS = ("EXPLANATION", "GAPS", "FINDINGS", "PLAN", "ACTION")
"""Names of the parts, in their order."""

ActionName = Literal["run", "background", "read", "operator", "finish"]
ACTIONS: tuple[ActionName, ...] = get_args(ActionName)
PLANNED_STEPS = 3

STEP = re.compile(r"^[ \t]*(?:\d+[.):]|[-*])[ \t]+(\S.*)$", re.MULTILINE)
BLOCK = re.compile(r"\A\s*(`{3,})[^\n`]*\n((?:(?!^\1).)*?)\n?^\1[ \t]*$\s*\Z", re.MULTILINE | re.DOTALL)
MARKS = "#*_` \t"
"""What a model may put around a part's name or an action's to set it off."""


class MalformedTurnError(Exception):
    """A message is no turn; its text says why, to the model."""


@dataclass(frozen=True)
class Turn:
    """One turn, as far as it is acted upon."""

    plan: tuple[str, ...]
    """The steps that it plans."""
    action: ActionName
    """What it does."""
    text: str
    """The command, the number, the message or the account."""


def read_turn(message: str, actions: Collection[ActionName] = ACTIONS) -> Turn:
    """Reads a turn.

    The parts must all be there, in their order; what is in them is the model's business, but for the action.

    Args:
        message: What the model said.
        actions: The actions that there are.

    Raises:
        MalformedTurnError: It is none.
    """
    rest = message
    texts: dict[str, str] = {}
    for place, name in enumerate(PARTS):
        heading = _heading(name).search(rest)
        if heading is None:
            raise MalformedTurnError(f"the part {name} is missing, or it is not in its place")
        if place:
            texts[PARTS[place - 1]] = rest[: heading.start()].strip()
        rest = rest[heading.end() :]
    for name, text in texts.items():
        if not text:
            raise MalformedTurnError(f"the part {name} is empty")
    action, text = _action(rest, actions)
    return Turn(plan=_steps(texts["PLAN"]), action=action, text=text)


def _heading(name: str) -> re.Pattern[str]:
    return re.compile(rf"^[{MARKS}]*{name}[{MARKS}]*:[{MARKS}]*", re.IGNORECASE | re.MULTILINE)


def _steps(plan: str) -> tuple[str, ...]:
    return tuple(found[1].strip() for found in STEP.finditer(plan))[:PLANNED_STEPS] or (plan,)


def _action(rest: str, actions: Collection[ActionName]) -> tuple[ActionName, str]:
    line, _, below = rest.lstrip().partition("\n")
    said, _, beside = line.strip(MARKS).partition(" ")
    text = "\n".join(part for part in (beside.strip(), below.rstrip()) if part.strip())
    name = next((action for action in actions if action == said.strip(f"{MARKS}:").lower()), None)
    match name:
        case "run" | "background":
            return name, _command(text)
        case "read":
            return name, _number(text)
        case "operator":
            return name, _message(text)
        case "finish":
            return name, text.strip()
        case None:
            raise MalformedTurnError(f"the ACTION starts with none of {', '.join(actions)}")


def _command(text: str) -> str:
    """The command of one block; without any backticks, all of the text."""
    block = BLOCK.match(text)
    command = block[2] if block else text
    if not command.strip():
        raise MalformedTurnError("the command is missing")
    if block is None and "```" in text:
        raise MalformedTurnError(
            "the command must be one block between lines of three backticks, with nothing after it"
        )
    return command


def _number(text: str) -> str:
    found = re.fullmatch(r"\D{0,20}?(\d{1,4})\W*", text.strip())
    if found is None:
        raise MalformedTurnError("read takes the number of a background command")
    return found[1]


def _message(text: str) -> str:
    if not text.strip():
        raise MalformedTurnError("operator takes a text, which is missing")
    return text.strip()
