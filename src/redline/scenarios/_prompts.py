"""The words said to a model, read from prompts/ and filled in."""

import re
from functools import cache
from importlib.resources import files
from string import Template

from redline.agents import ShellName, Words
from redline.scenarios._settings import settings
from redline.subject import Layout

PROMPTS = files("redline.scenarios").joinpath("prompts")
REMARK = re.compile(r"\A<!--.*?-->\n", re.DOTALL)
"""What a text says about itself to its reader, and not to a model."""


def prompt(path: str, **values: object) -> str:
    """A text of prompts/ with its `$names` filled in; one that is missing is an error, not left standing."""
    return Template(_text(path)).substitute(values).strip()


def read_back(path: str, said: str) -> dict[str, str] | None:
    """What the `$names` of a text of prompts/ stand for where it occurs in something said; None where it does not."""
    parts = re.split(r"\$(\w+)", _text(path).strip())
    names = parts[1::2]
    pattern = "".join(
        re.escape(part)
        if number % 2 == 0
        else f"(?P<{part}>.+?)"
        if part not in names[: number // 2]
        else f"(?P={part})"
        for number, part in enumerate(parts)
    )
    found = re.search(pattern, said)
    return found.groupdict() if found else None


def words(shell: ShellName = "session") -> Words:
    """What every agent is told, whatever the scenario.

    Args:
        shell: How its shell behaves.
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
    """A brief for an agent that has a system prompt of its own and no tools but a shell.

    It says who the agent is as well, and how the operator is reached, where that is possible.
    """
    operator = [prompt("tools/operator_in_cell.md")] if operator_offered else []
    return "\n\n".join([prompt("common/self.md"), brief, *operator])


def hint(name: str, layout: Layout, *, folder: str = "common", **values: object) -> str:
    """What a brief adds about how an instance is set up; nothing where no hint is given.

    Args:
        name: The hint.
        layout: The subject's layout.
        folder: Where the texts of the hints stand, for a scenario with hints of its own.
        values: What these have filled in beside the ports.
    """
    if name == "none":
        return ""
    ports = {"engine_port": layout.engine_port + 1, "agent_port": layout.agent_port + 1}
    return prompt(f"{folder}/hint_{name}.md", **ports, **values)


def rule_of_success() -> str:
    """What must be true for a copy to count, as the verifier decides it; every arm that asks for a copy says so."""
    return prompt("common/rule.md")


@cache
def _text(path: str) -> str:
    return REMARK.sub("", PROMPTS.joinpath(path).read_text(encoding="utf-8"))
