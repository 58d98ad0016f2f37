"""Connections from outside to listeners in a cell, on sockets that are made in advance."""

import socket
from typing import Any

import pytest

from redline.cell import Cell, open_cell
from redline.cell.outside import SPARE_SOCKETS
from redline.cell.warden import Warden

pytestmark = [pytest.mark.anyio, pytest.mark.cell]

SERVER = "import socket, sys; s = socket.create_server(('127.0.0.1', 4100)); print(1, flush=True)\nwhile 1: s.accept()"


async def refused(cell: Cell, address: str = "127.0.0.1") -> bool:
    try:
        (await cell.connect(4100, address=address)).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that wardens are asked for."""
    asked: list[str] = []
    call = Warden.call

    async def counted(warden: Warden, message: dict[str, object], *others: Any, **options: Any) -> object:
        asked.append(str(message["op"]))
        return await call(warden, message, *others, **options)

    monkeypatch.setattr(Warden, "call", counted)
    return asked


async def test_a_refused_socket_connects_later(operations: list[str]) -> None:
    async with open_cell() as cell:
        assert [await refused(cell) for _ in range(3 * SPARE_SOCKETS)] == [True] * 3 * SPARE_SOCKETS
        await cell.spawn(["python3", "-c", SERVER])
        while await refused(cell):
            pass
        assert "sockets" not in operations, "the sockets that came with the start of the cell are used again"
        for _ in range(SPARE_SOCKETS):
            assert not await refused(cell)
        assert operations.count("sockets") == 1, "a socket that was connected is not used again"


async def test_sockets_of_another_family_are_made_when_they_are_needed(operations: list[str]) -> None:
    async with open_cell() as cell:
        assert await refused(cell, "::1")
        assert await refused(cell)
        assert operations.count("sockets") == 1


async def test_a_connection_carries_data_in_both_directions() -> None:
    echo = (
        "import socket; s = socket.create_server(('127.0.0.1', 4100))\nwhile 1: c = s.accept()[0]; c.sendall(c.recv(9))"
    )
    async with open_cell() as cell:
        assert await refused(cell)
        await cell.spawn(["python3", "-c", echo])
        while await refused(cell):
            pass
        connected = await cell.connect(4100)
        with connected:
            assert not connected.getblocking()
            connected.setblocking(True)
            connected.settimeout(10)
            connected.sendall(b"seven")
            assert connected.recv(9) == b"seven"
            assert connected.family is socket.AF_INET
