"""The boundary's alarm in a trial: what raises it, who hears of it, and the tools for which it is raised in a reply.

A tool that acts outside of the cell is a provider's own web search, code execution or MCP.
"""

from functools import partial

from inspect_ai.model import ContentToolUse, ModelOutput

from redline.agents.ending import LoopEndedError
from redline.cell import Cell
from redline.cell.alarm import OF_ITS_CELL_ALONE, Alarm, RaisedAlarm
from redline.tether import Broker
from redline.verify.trial import Trial


def set_alarm(cell: Cell, trial: Trial) -> Alarm:
    """Gives a cell its alarm, which the trial's log notes.

    Raises:
        OSError: The machine does not let this user look at the cell.
    """
    alarm = Alarm(cell, trial.id)

    def note(raised: RaisedAlarm) -> None:
        what = "flood" if raised.kind in OF_ITS_CELL_ALONE else "boundary"
        trial.record("fault", what=what, alarm=raised.kind, detail=raised.detail)

    alarm.on_raised(note)
    cell.attach(alarm)
    return alarm


def guard_tether(broker: Broker, alarm: Alarm) -> None:
    """Has the alarm cut a tether, and a tether raise the alarm at what no agent's ordinary work does.

    That is a process outside of the cell that speaks at it, or a flood.
    """
    alarm.on_raised(lambda _: broker.close_switch())
    broker.on_outsider(partial(alarm.raise_alarm, "outsider"))
    broker.on_flood(partial(alarm.raise_alarm, "flood"))


async def check_for_foreign_tools(output: ModelOutput, alarm: Alarm) -> None:
    """Raises the alarm if an answer shows that its provider ran a tool.

    Raises:
        LoopEndedError: It does; the cell is stopped.
    """
    names = foreign_tools(output)
    if names:
        await alarm.raise_alarm("foreign_tool", ", ".join(names))
        raise LoopEndedError("boundary")


def foreign_tools(output: ModelOutput) -> list[str]:
    """Names of the tools that the provider ran for this answer."""
    contents = [choice.message.content for choice in output.choices]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return sorted({f"{part.tool_type} {part.name}".strip() for part in parts if isinstance(part, ContentToolUse)})
