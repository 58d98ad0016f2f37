"""The seal's drill of the tether holds where the tether does, and fails where one of its bounds is missing."""

from collections.abc import Callable

import pytest

from redline.cell import open_cell
from redline.tether import Broker, seal_drill
from redline.tether.channel import Channel
from redline.tether.seal_drill import tether_drill

pytestmark = [pytest.mark.anyio, pytest.mark.cell]


async def test_it_holds_and_leaves_no_tether_in_the_cell_that_it_is_given() -> None:
    async with open_cell() as cell:
        assert await tether_drill(cell) is None
        assert list(cell.nodes["default"].tether_dir.iterdir()) == []


def nothing_is_slow(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(seal_drill, "MESSAGE_SECONDS", {"outside": 60.0})


def nobody_makes_room(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Broker, "_make_room", lambda self, link: None)


def descriptors_pass_unseen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Broker, "_note", lambda self, kind, node, pid, detail: None)


def bytes_go_uncounted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "bytes_in", property(lambda self: 0, lambda self, count: None), raising=False)


def no_proof_is_asked_for(patch: pytest.MonkeyPatch) -> None:
    async def believe(self: Broker, link: object, draft: object) -> None: ...

    patch.setattr(Broker, "_prove", believe)


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (nothing_is_slow, "not cut: s"),
        (nobody_makes_room, "refused_connections: 0"),
        (descriptors_pass_unseen, "incident_descriptor: 0"),
        (bytes_go_uncounted, "bytes_in: 0"),
        (no_proof_is_asked_for, "refused_proof: 0"),
    ],
)
async def test_it_fails_where_a_bound_is_missing(
    break_it: Callable[[pytest.MonkeyPatch], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal_drill, "CUT_SECONDS", 1.0)
    break_it(monkeypatch)
    fault = await tether_drill()
    assert fault is not None
    assert reason in fault


async def test_it_fails_where_the_cell_runs_nothing() -> None:
    async with open_cell() as cell:
        await cell.kill()
        fault = await tether_drill(cell)
    assert fault is not None
    assert "did not run" in fault
