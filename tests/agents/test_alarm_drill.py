"""The alarm drill passes if each event stops a cell, and fails if one does not."""

from collections.abc import Callable

import pytest

from redline.agents import alarm_drill as module
from redline.agents.alarm_drill import alarm_drill
from redline.cell import Cell, open_cell
from redline.cell.watch import Breach, Watch

pytestmark = [pytest.mark.anyio, pytest.mark.cell]


async def test_it_passes_and_leaves_the_given_cell_unchanged() -> None:
    async with open_cell() as cell:
        assert set(module.events(cell)) == {"foreign_tool", "network", "outsider", "stranger"}
        assert await alarm_drill(cell) is None
        assert Watch(cell).check() is None
        done = await cell.exec(["sh", "-c", "grep -hs ^State: /proc/[0-9]*/status"])
        assert len([line for line in done.stdout.decode().splitlines() if "zombie" not in line]) == 2


def the_watch_finds_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Watch, "check", lambda self: None)


def the_watch_raises_false_alarms(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Watch, "check", lambda self: Breach("network", "a shadow"))


def nothing_freezes(patch: pytest.MonkeyPatch) -> None:
    async def pretend(self: Cell) -> None: ...

    patch.setattr(Cell, "freeze", pretend)


def outsiders_go_unreported(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "guard_tether", lambda broker, alarm: None)


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (the_watch_finds_nothing, "network: no alarm within"),
        (the_watch_raises_false_alarms, "foreign_tool: raised without an event"),
        (nothing_freezes, "foreign_tool: a process of the frozen cell kept running"),
        (outsiders_go_unreported, "outsider: no alarm within"),
    ],
)
async def test_it_fails_if_an_event_does_not_stop_the_cell(
    break_it: Callable[[pytest.MonkeyPatch], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "no alarm within" in reason:
        monkeypatch.setattr(module, "ALARM_SECONDS", 2.0)
    break_it(monkeypatch)
    fault = await alarm_drill()
    assert fault is not None
    assert fault.startswith(reason)
