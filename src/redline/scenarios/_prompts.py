"""The texts given to a model, read from the prompt folders and filled in."""

import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from redline.agents import ShellName, Words
from redline.scenarios._settings import settings
from redline.subject import Layout

PROMPTS = files("redline.scenarios").joinpath("prompts")
"""Texts that scenarios share. A scenario's own texts are in the folder `prompts` of its own folder."""

REMARK = re.compile(r"\A<!--.*?-->\n", re.DOTALL)
"""Leading comment of a text, which is not part of what a model is given."""

_folders: dict[str, Path] = {}


def add_folder(scenario: str, folder: Path) -> None:
    """Make the texts of a scenario available under its name, such as `remote_copy/service.md`."""
    _folders[scenario] = folder
    _text.cache_clear()
    _pattern.cache_clear()


def scenario_folders() -> dict[str, Path]:
    """Return the folders of all scenarios by name."""
    return dict(_folders)


def prompt(path: str, **values: object) -> str:
    """Return a text with its `$names` filled in; a missing value is an error.

    Args:
        path: A scenario or a folder of the shared prompts, and the name of the file, such as `common/rule.md`.
        values: Values of the `$names`.
    """
    return Template(_text(path)).substitute(values).strip()


def read_back(path: str, text: str) -> dict[str, str] | None:
    """Return the values of a prompt's `$names` in a text that contains the prompt, or None if it does not."""
    found = _pattern(path).search(text)
    return found.groupdict() if found else None


def words(shell: ShellName = "session") -> Words:
    """Return the texts that every agent is given in every scenario.

    Args:
        shell: How the agent's shell behaves.
    """
    bounds = prompt(f"tools/shell_{shell}.md", seconds=settings().bash_seconds)
    return Words(
        system=prompt("common/system.md", self=prompt("common/self.md")),
        go_on=prompt("common/continue.md").replace("{submit}", "submit"),
        bash=prompt("tools/bash.md", shell=bounds),
        bash_command=prompt("tools/bash_command.md"),
        operator=prompt("tools/operator.md"),
        operator_message=prompt("tools/operator_message.md"),
        operator_reply=prompt("tools/operator_reply.md"),
        submit=prompt("tools/submit.md"),
        refused=prompt("tools/refused.md"),
        text_tools=prompt("agents/text_tools.md", tools="{tools}"),
        text_tools_fault=prompt("agents/text_tools_fault.md"),
        text_tools_go_on=prompt("agents/text_tools_continue.md").replace("{submit}", "submit"),
        fudan=prompt("agents/fudan.md", self=prompt("common/self.md"), shell=bounds, operator="{operator}"),
        fudan_operator=prompt("agents/fudan_operator.md"),
        fudan_fault=prompt("agents/fudan_fault.md", fault="{fault}"),
    )


def task_alone(brief: str, *, operator_offered: bool = True) -> str:
    """Return the brief for an agent that has a system prompt of its own and no tool but a shell.

    The brief then also says what the agent is and, if the operator can be reached, how.
    """
    operator = [prompt("tools/operator_in_cell.md")] if operator_offered else []
    return "\n\n".join([prompt("common/self.md"), brief, *operator])


def hint(name: str, layout: Layout, *, folder: str = "common", **values: object) -> str:
    """Return what a hint adds to the brief about setting up an instance; empty for the hint `none`.

    Args:
        name: Name of the hint.
        layout: Layout of the subject.
        folder: Folder of the hints' texts: `common`, or the name of a scenario that has its own.
        values: Values to fill in, in addition to the ports.
    """
    if name == "none":
        return ""
    ports = {"engine_port": layout.engine_port + 1, "agent_port": layout.agent_port + 1}
    return prompt(f"{folder}/hint_{name}.md", **ports, **values)


def rule_of_success() -> str:
    """Return the conditions under which the verifier counts a copy. Every arm that asks for a copy states them."""
    return prompt("common/rule.md")


@cache
def _text(path: str) -> str:
    folder, _, name = path.partition("/")
    root: Traversable = _folders[folder] / "prompts" / name if folder in _folders else PROMPTS.joinpath(path)
    return REMARK.sub("", root.read_text(encoding="utf-8"))


@cache
def _pattern(path: str) -> re.Pattern[str]:
    """Return the pattern of a text that contains a prompt, with a group for each of its `$names`."""
    parts = re.split(r"\$(\w+)", _text(path).strip())
    names = parts[1::2]
    return re.compile(
        "".join(
            re.escape(part)
            if number % 2 == 0
            else f"(?P<{part}>.+?)"
            if part not in names[: number // 2]
            else f"(?P={part})"
            for number, part in enumerate(parts)
        )
    )
