"""The seal's drill of the tether passes if the tether works, and fails if one of its limits is missing."""

from collections.abc import Callable

import pytest

from redline.cell import open_cell
from redline.tether import Broker, seal_drill
from redline.tether.channel import Channel
from redline.tether.open_connections import OpenConnections
from redline.tether.seal_drill import tether_drill

pytestmark = [pytest.mark.anyio, pytest.mark.cell]


async def test_it_passes_and_leaves_no_tether_in_the_cell() -> None:
    async with open_cell() as cell:
        assert await tether_drill(cell) is None
        assert list(cell.nodes["default"].tether_dir.iterdir()) == []


def slow_messages_are_accepted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(seal_drill, "MESSAGE_SECONDS", {"outside": 60.0})


def connections_are_unlimited(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OpenConnections, "_make_room", lambda self, newcomer: None)


def descriptors_are_not_recorded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Broker, "_note", lambda self, kind, node, pid, detail: None)


def bytes_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "bytes_in", property(lambda self: 0, lambda self, count: None), raising=False)


def no_proof_is_required(patch: pytest.MonkeyPatch) -> None:
    async def accept(self: Broker, connection: object, call: object) -> None: ...

    patch.setattr(Broker, "_check_proof", accept)


@pytest.mark.parametrize(
    ("inject", "reason"),
    [
        (slow_messages_are_accepted, "not cut: s"),
        (connections_are_unlimited, "refused_connections: 0"),
        (descriptors_are_not_recorded, "incident_descriptor: 0"),
        (bytes_are_not_counted, "bytes_in: 0"),
        (no_proof_is_required, "refused_proof: 0"),
    ],
)
async def test_it_fails_without_a_limit(
    inject: Callable[[pytest.MonkeyPatch], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal_drill, "CUT_SECONDS", 1.0)
    inject(monkeypatch)
    fault = await tether_drill()
    assert fault is not None
    assert reason in fault


async def test_it_fails_if_the_cell_cannot_run_it() -> None:
    async with open_cell() as cell:
        await cell.kill()
        fault = await tether_drill(cell)
    assert fault is not None
    assert "did not run" in fault
