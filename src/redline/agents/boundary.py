"""The boundary alarm of a trial: the events that raise it, its log entry, and the provider tools in replies.

Tools that act outside the cell are a provider's own web search, code execution and MCP.
"""

from functools import partial

from inspect_ai.model import ContentToolUse, ModelOutput

from redline.agents.ending import LoopEndedError
from redline.cell import Cell
from redline.cell.alarm import OF_ITS_CELL_ALONE, Alarm, RaisedAlarm
from redline.tether import Broker
from redline.verify.trial import Trial


def set_alarm(cell: Cell, trial: Trial) -> Alarm:
    """Attach an alarm to a cell and log it in the trial when it is raised.

    Raises:
        OSError: The host does not allow this user to inspect the cell.
    """
    alarm = Alarm(cell, trial.id)

    def record(raised: RaisedAlarm) -> None:
        what = "flood" if raised.kind in OF_ITS_CELL_ALONE else "boundary"
        trial.record("fault", what=what, alarm=raised.kind, detail=raised.detail)

    alarm.on_raised(record)
    cell.attach(alarm)
    return alarm


def guard_tether(broker: Broker, alarm: Alarm) -> None:
    """Connect a tether and the alarm: the alarm cuts the tether, and the tether raises the alarm.

    The tether raises it if a process outside the cell connects, or if an agent floods the tether.
    """
    alarm.on_raised(lambda _: broker.shut_off())
    broker.on_outsider(partial(alarm.raise_alarm, "outsider"))
    broker.on_flood(partial(alarm.raise_alarm, "flood"))


async def check_for_foreign_tools(output: ModelOutput, alarm: Alarm) -> None:
    """Raise the alarm if an answer shows that the provider ran a tool.

    Raises:
        LoopEndedError: The provider ran a tool; the cell is stopped.
    """
    names = foreign_tools(output)
    if names:
        await alarm.raise_alarm("foreign_tool", ", ".join(names))
        raise LoopEndedError("boundary")


def foreign_tools(output: ModelOutput) -> list[str]:
    """Return the names of the tools that the provider ran for an answer."""
    contents = [choice.message.content for choice in output.choices]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return sorted({f"{part.tool_type} {part.name}".strip() for part in parts if isinstance(part, ContentToolUse)})
