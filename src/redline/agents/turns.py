"""A turn of the `fudan` scaffold: five parts, of which the last is an action."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

PARTS = ("EXPLANATION", "GAPS", "FINDINGS", "PLAN", "ACTION")
"""Names of the parts, in order."""

ActionName = Literal["run", "background", "read", "operator", "finish"]
ACTIONS: tuple[ActionName, ...] = get_args(ActionName)
PLANNED_STEPS = 3

STEP = re.compile(r"^[ \t]*(?:\d+[.):]|[-*])[ \t]+(\S.*)$", re.MULTILINE)
BLOCK = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n((?:(?!^[ \t]*\1).)*?)\n?^[ \t]*\1[`~]*[ \t]*$", re.MULTILINE | re.DOTALL
)
FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})", re.MULTILINE)
MARKS = "#*_`> \t"
"""Markup that a model can put around the name of a part or an action."""
HEADING = re.compile(
    rf"^[{MARKS}]*(?:\d+[.)][{MARKS}]*)?({'|'.join(PARTS)})[{MARKS}]*(?::[#*_> \t]*|$)", re.IGNORECASE | re.MULTILINE
)
NAME = re.compile(r"[#*_> \t]*`?([A-Za-z]+)`?[*_]*(?::[*_]*)?[ \t]*(.*)")
"""The name of an action and the rest of its line."""
IN_LINE = re.compile(r"`([^`]+)`[.*_ \t]*")


class MalformedTurnError(Exception):
    """Raised when a message is not a valid turn. The text is for the model; `plan` has the steps of the message."""

    def __init__(self, fault: str, plan: tuple[str, ...] = ()) -> None:
        """Store the plan of the message."""
        super().__init__(fault)
        self.plan = plan


@dataclass(frozen=True)
class Turn:
    """The parts of a turn that are used."""

    plan: tuple[str, ...]
    """The planned steps."""
    action: ActionName
    """The action."""
    text: str
    """Argument of the action: the command, the number, the message or the report."""


def read_turn(message: str, actions: Collection[ActionName] = ACTIONS) -> Turn:
    """Parse a turn.

    Only the action is required. The other parts can be missing, empty or in another order, so that layout alone does
    not keep a model from acting. Names can be headings or bold. Text after the action's block is ignored, such as a
    further turn with an invented result.

    Args:
        message: Output of the model.
        actions: The available actions.

    Raises:
        MalformedTurnError: The message has no valid action.
    """
    parts = _parts(message)
    plan = _steps(parts["PLAN"]) if parts.get("PLAN", "").strip() else ()
    try:
        if "ACTION" not in parts:
            raise MalformedTurnError("the part ACTION is missing")
        action, text = _action(parts["ACTION"], actions)
    except MalformedTurnError as fault:
        raise MalformedTurnError(str(fault), plan) from fault
    return Turn(plan=plan, action=action, text=text)


def _parts(message: str) -> dict[str, str]:
    """Return the first part of each name. Names inside code blocks do not count."""
    outside = BLOCK.sub(lambda block: " " * len(block[0]), message)
    headings = list(HEADING.finditer(outside))
    ends = [*(heading.start() for heading in headings), len(message)][1:]
    found: dict[str, str] = {}
    for heading, end in zip(headings, ends, strict=True):
        found.setdefault(heading[1].upper(), message[heading.end() : end])
    return found


def _steps(plan: str) -> tuple[str, ...]:
    return tuple(found[1].strip() for found in STEP.finditer(plan))[:PLANNED_STEPS] or (plan.strip(),)


def _action(rest: str, actions: Collection[ActionName]) -> tuple[ActionName, str]:
    rest = rest.strip()
    if BLOCK.match(rest):
        return "run", _command(rest)
    line, _, below = rest.partition("\n")
    found = NAME.match(line)
    text = "\n".join(part for part in (found[2].strip() if found else "", below) if part.strip())
    name = next((action for action in actions if found and action == found[1].lower()), None)
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
    """Return the command of the first block, or the whole text if there is no block."""
    block = BLOCK.search(text)
    in_line = IN_LINE.fullmatch(text.strip())
    command = block[2] if block else in_line[1] if in_line else text.rstrip()
    if not command.strip():
        raise MalformedTurnError("the command is missing")
    if block is None and FENCE.search(text):
        raise MalformedTurnError("the block of the command is not closed with a line of three backticks")
    return command


def _number(text: str) -> str:
    found = re.match(r"\D{0,20}?(\d{1,4})(?!\w)", text.strip())
    if found is None:
        raise MalformedTurnError("read takes the number of a background command")
    return found[1]


def _message(text: str) -> str:
    if not text.strip():
        raise MalformedTurnError("operator takes a text, which is missing")
    return text.strip()
