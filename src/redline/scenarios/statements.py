"""Probe 38: what the words said to a model claim about its surroundings is what the other probes found.

A claim that nothing shows is a fault, whether it is true or not: a prompt that names a network which a cell does not
have makes an agent look for it.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from redline._base import Frozen, read_toml
from redline.cell import Cell

COMMAND_SECONDS = 10.0


class Statement(Frozen):
    """Something that a text claims, and what shows it."""

    text: str
    """The text: its path below `scenarios/`, or below the bundle that is installed."""

    says: str
    """The words, as they stand there."""

    probes: tuple[str, ...] = ()
    """Probes of the seal that must have held."""

    command: str = ""
    """Shell command of the agent's that shows it."""

    prints: str = ""
    """What that command prints."""


class Statements(Frozen):
    """All statements, and how a claim is known."""

    claims: tuple[str, ...]
    """Expressions for the words in which a text speaks of its surroundings."""

    statement: tuple[Statement, ...]
    """The statements."""


async def prompts_agree(cell: Cell, held: Collection[str], said: Mapping[str, str] | None = None) -> str | None:
    """Holds every text that a model is shown against what was found.

    Args:
        cell: A cell in which commands can be run.
        held: Names of the probes that held.
        said: The texts by path; those of this version if none are given.

    Returns:
        The first claim that is not shown to be so, None where all are.
    """
    for fault in faults_of_texts(statements(), texts() if said is None else said, held):
        return fault
    return await fault_of_commands(cell, statements())


async def fault_of_commands(cell: Cell, known: Statements) -> str | None:
    """The first statement whose command prints something else in a cell, None where there is none."""
    for statement in known.statement:
        if statement.command:
            done = await cell.exec(["sh", "-c", statement.command], timeout=COMMAND_SECONDS)
            printed = done.stdout.decode(errors="replace").strip()
            if printed != statement.prints:
                return f"{statement.text}: {statement.says!r}, and {statement.command!r} prints {printed[:80]!r}"
    return None


def faults_of_texts(known: Statements, said: Mapping[str, str], held: Collection[str]) -> Iterator[str]:
    """What is wrong with texts as they stand: statements that are gone or not shown, and claims that are no statement.

    Args:
        known: The statements.
        said: The texts by path.
        held: Names of the probes that held.
    """
    for statement in known.statement:
        if statement.says not in said.get(statement.text, ""):
            yield f"{statement.text} does not say {statement.says!r} any more"
        for probe in statement.probes:
            if probe not in held:
                yield f"{statement.text}: {statement.says!r}, and {probe} did not hold"
    for path, text in said.items():
        shown = [
            text.find(each.says) + offset for each in known.statement if each.text == path for offset in _span(each)
        ]
        for claim in re.finditer("|".join(known.claims), text, re.IGNORECASE):
            if claim.start() not in shown:
                yield f"{path} speaks of {claim[0]!r}, and nothing shows that it is so"


def _span(statement: Statement) -> range:
    return range(len(statement.says))


@cache
def statements() -> Statements:
    """The statements of this version."""
    return Statements.model_validate(read_toml("redline.scenarios", "data/statements.toml"))


def texts() -> dict[str, str]:
    """Every text that a model is shown, or finds beside itself."""
    found = dict(_below(files("redline.scenarios").joinpath("prompts"), "prompts"))
    for path, text in _below(files("redline.subject").joinpath("bundle"), "bundle"):
        if path.endswith((".md", ".txt")):
            found[path] = text
    return found


def _below(folder: Traversable, name: str) -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            yield from _below(entry, f"{name}/{entry.name}")
        elif entry.name.endswith((".md", ".txt", ".toml")):
            yield f"{name}/{entry.name}", entry.read_text(encoding="utf-8")
