"""Every probe rejects the cell that is broken in its way, and no other probe does."""

from collections.abc import AsyncIterator, Sequence

import pytest

from redline.cell.config import CellConfig
from redline.cell.seal import PROBE_NAMES
from redline.cell.seal.broken import Breakage
from redline.cell.seal.probes import QUICK
from redline.cell.seal.quick import quick_seal
from redline.cell.seal.selftest import BREAKAGES, Matrix, Row, selftest

MEASURED = {probe.name for probe in QUICK}


def label(breakage: Breakage) -> str:
    return breakage.what.replace(" ", "-")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def matrix(anyio_backend: str) -> AsyncIterator[Matrix]:
    yield await selftest(CellConfig(runtime="runc"), MEASURED, measure=quick_seal)


def row(matrix: Matrix, what: str) -> Row:
    (found,) = (row for row in matrix.rows if row.what == what)
    return found


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize("breakage", [each for each in BREAKAGES if each.probe in MEASURED], ids=label)
async def test_a_broken_cell_fails_at_its_own_probe_only(matrix: Matrix, breakage: Breakage) -> None:
    found = row(matrix, breakage.what)
    assert not found.complaint()
    assert found.probe in found.failed


@pytest.mark.cell
@pytest.mark.anyio
async def test_a_cell_that_is_not_broken_fails_at_no_probe(matrix: Matrix) -> None:
    assert not row(matrix, "nothing is broken").failed


@pytest.mark.cell
@pytest.mark.anyio
async def test_the_matrix_holds_and_says_so(matrix: Matrix) -> None:
    assert matrix.holds
    assert "every broken cell fails at its own probe" in matrix.render()


def test_every_breakage_names_known_probes() -> None:
    named = {name for each in BREAKAGES for name in (each.probe, *each.related)}
    assert named <= set(PROBE_NAMES)
    assert all(each.related.get(each.probe) is None for each in BREAKAGES)


def finding(failed: Sequence[str], held: Sequence[str] = (), **more: object) -> Row:
    return Row.model_validate(
        {"probe": "own_ipc", "what": "a thing", "failed": dict.fromkeys(failed, "seen"), "held": held, **more}
    )


def test_a_breakage_that_its_probe_does_not_notice_does_not_hold() -> None:
    assert not finding([], ["own_ipc"]).holds


def test_a_breakage_that_an_unrelated_probe_notices_does_not_hold() -> None:
    assert not finding(["own_ipc", "no_network"]).holds


def test_a_breakage_that_a_related_probe_notices_holds() -> None:
    assert finding(["own_ipc", "no_network"], related={"no_network": "of necessity"}).holds


def test_a_breakage_that_could_not_be_measured_does_not_hold() -> None:
    assert not finding(["own_ipc"], error="it broke").holds


def test_a_failing_cell_that_is_not_broken_does_not_hold() -> None:
    assert not Row(probe="", what="nothing is broken", failed={"own_ipc": "seen"}).holds
