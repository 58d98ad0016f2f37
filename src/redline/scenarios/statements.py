"""Probe 38: every claim that a prompt makes about the agent's surroundings matches what the other probes found.

A claim that no probe and no command supports fails the probe, whether it is true or not: a prompt that mentions a
network which the cell does not have makes an agent look for it.
"""

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from redline._base import Frozen, read_toml
from redline.cell import Cell
from redline.scenarios._prompts import scenario_folders

COMMAND_SECONDS = 10.0
SCENARIO_STATEMENTS = "statements.toml"
"""File in a scenario's folder that supports the claims of the scenario's own prompts."""


class Statement(Frozen):
    """A claim that a text makes, and its support: probes, a command, or both."""

    text: str
    """Path of the text: `prompts/…` or `bundle/…`. In a scenario's file, the name of a file in its prompts folder."""

    says: str
    """The claim, word for word."""

    probes: tuple[str, ...] = ()
    """Probes of the seal that must hold."""

    command: str = ""
    """Shell command that supports the claim when the agent's user runs it."""

    prints: str = ""
    """Expected output of the command."""


class ScenarioStatements(Frozen):
    """Content of a scenario's statements.toml."""

    statement: tuple[Statement, ...]
    """The statements."""


class Statements(Frozen):
    """Content of data/statements.toml, to which the statements of all scenarios are added."""

    claims: tuple[str, ...]
    """Regular expressions for words that make a claim about the agent's surroundings."""

    statement: tuple[Statement, ...]
    """The statements."""


async def prompts_agree(cell: Cell, held: Collection[str], by_path: Mapping[str, str] | None = None) -> str | None:
    """Compare every text that a model is shown with what the probes found.

    Args:
        cell: A cell in which commands can be run.
        held: Names of the probes that held.
        by_path: The texts by their paths; defaults to the texts of this version.

    Returns:
        The first fault, or None if every claim is supported.
    """
    for fault in faults_of_texts(statements(), texts() if by_path is None else by_path, held):
        return fault
    return await fault_of_commands(cell, statements())


async def fault_of_commands(cell: Cell, known: Statements) -> str | None:
    """Return the first statement whose command prints something else in a cell, or None."""
    for statement in known.statement:
        if statement.command:
            done = await cell.exec(["sh", "-c", statement.command], timeout=COMMAND_SECONDS)
            printed = done.stdout.decode(errors="replace").strip()
            if printed != statement.prints:
                return f"{statement.text}: {statement.says!r}, but {statement.command!r} prints {printed[:80]!r}"
    return None


def faults_of_texts(known: Statements, by_path: Mapping[str, str], held: Collection[str]) -> Iterator[str]:
    """Yield the faults of some texts: outdated statements, statements without support, and claims without a statement.

    Args:
        known: The statements.
        by_path: The texts by their paths.
        held: Names of the probes that held.
    """
    for statement in known.statement:
        if statement.says not in by_path.get(statement.text, ""):
            yield f"{statement.text} no longer says {statement.says!r}"
        for probe in statement.probes:
            if probe not in held:
                yield f"{statement.text}: {statement.says!r}, but {probe} did not hold"
    for path, text in by_path.items():
        supported = [
            text.find(each.says) + offset for each in known.statement if each.text == path for offset in _span(each)
        ]
        for claim in re.finditer("|".join(known.claims), text, re.IGNORECASE):
            if claim.start() not in supported:
                yield f"{path} mentions {claim[0]!r}, and no statement in {_file_for(path)} supports it"


def _span(statement: Statement) -> range:
    return range(len(statement.says))


def _file_for(path: str) -> str:
    folder = path.removeprefix("prompts/").partition("/")[0]
    return f"{folder}/{SCENARIO_STATEMENTS}" if folder in scenario_folders() else "data/statements.toml"


def statements() -> Statements:
    """Return the statements of this version: the shared ones and those of every scenario."""
    shared = Statements.model_validate(read_toml("redline.scenarios", "data/statements.toml"))
    own = (one for name, folder in scenario_folders().items() for one in _statements_of(name, folder))
    return shared.model_copy(update={"statement": (*shared.statement, *own)})


def _statements_of(scenario: str, folder: Path) -> Iterator[Statement]:
    file = folder / SCENARIO_STATEMENTS
    if file.exists():
        content = ScenarioStatements.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
        for statement in content.statement:
            yield statement.model_copy(update={"text": f"prompts/{scenario}/{statement.text}"})


def texts() -> dict[str, str]:
    """Return every text that a model is shown or can find in its cell, by path."""
    found = dict(_below(files("redline.scenarios").joinpath("prompts"), "prompts"))
    for name, folder in scenario_folders().items():
        if (folder / "prompts").is_dir():
            found.update(_below(folder / "prompts", f"prompts/{name}"))
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
