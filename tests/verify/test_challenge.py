import anyio
import anyio.lowlevel
import pytest

from redline.cell.errors import CellGoneError
from redline.verify._limits import limits
from redline.verify.challenge import Endpoint, bounded_concurrently

pytestmark = pytest.mark.anyio


def endpoint(number: int) -> Endpoint:
    return Endpoint(f"tcp4:127.0.0.1:{number}", "default", ())


async def test_endpoints_are_challenged_with_bounded_concurrency_and_reported_in_order() -> None:
    inside, most = 0, 0

    async def ask(one: Endpoint) -> int | str:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await anyio.sleep(0.02 if one.port == 1 else 0.001)
        inside -= 1
        return one.port

    assert await bounded_concurrently(ask, [endpoint(number) for number in range(1, 13)]) == tuple(range(1, 13))
    assert most == limits().challenge.concurrency


async def test_a_cell_lost_during_a_challenge_is_reported_as_lost() -> None:
    async def ask(one: Endpoint) -> int:
        await anyio.lowlevel.checkpoint()
        raise CellGoneError("the cell is not running")

    with pytest.raises(CellGoneError):
        await bounded_concurrently(ask, [endpoint(number) for number in (1, 2, 3)])
