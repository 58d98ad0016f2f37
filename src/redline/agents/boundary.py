"""The alarm for tools that act outside of the cell: a provider's own web search, code execution or MCP."""

from inspect_ai.model import ContentToolUse, ModelOutput

from redline.agents.ending import LoopEndedError
from redline.verify.trial import Trial


def check_for_foreign_tools(output: ModelOutput, trial: Trial) -> None:
    """Raises the alarm if an answer shows that its provider ran a tool.

    Raises:
        LoopEndedError: It does; the trial says so.
    """
    names = foreign_tools(output)
    if names:
        trial.record("trouble", what="boundary", tools=", ".join(names))
        raise LoopEndedError("boundary")


def foreign_tools(output: ModelOutput) -> list[str]:
    """Names of the tools that the provider ran for this answer."""
    contents = [choice.message.content for choice in output.choices]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return sorted({f"{part.tool_type} {part.name}".strip() for part in parts if isinstance(part, ContentToolUse)})
