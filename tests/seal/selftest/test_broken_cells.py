"""Every probe rejects the cell that is broken in its way, and no other probe does: on every runtime."""

from collections.abc import AsyncIterator, Sequence

import pytest

from redline.cell.config import CellConfig, RuntimeName
from redline.seal import PROBE_NAMES
from redline.seal.broken import InjectedDefect
from redline.seal.matrix import UNBROKEN, Matrix, Row
from redline.seal.selftest import INJECTED_DEFECTS, selftest

SAMPLE = {
    "runsc": ("canary_unreadable", "kill_drill"),
    "docker": ("canary_unreadable", "few_devices", "own_ipc"),
}
"""What is tried in tests on runtimes that are slow to start; `redline seal --selftest` tries all of it there too."""

DRILLED_ELSEWHERE = ("tether_only_protocol", "alarm_arrives", "prompts_agree")
"""Probes whose defects belong to layers above the cell."""


def label(defect: InjectedDefect) -> str:
    return defect.what.replace(" ", "-")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def matrix(anyio_backend: str) -> AsyncIterator[Matrix]:
    yield await selftest(CellConfig(runtime="runc"))


def row(matrix: Matrix, what: str) -> Row:
    (found,) = (row for row in matrix.rows if row.what == what)
    return found


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize("defect", INJECTED_DEFECTS, ids=label)
async def test_a_broken_cell_fails_at_its_own_probe_only(matrix: Matrix, defect: InjectedDefect) -> None:
    found = row(matrix, defect.what)
    assert not found.left_out, "on runc, as root, everything can be broken"
    assert not found.complaint()
    assert found.probe in found.failed


@pytest.mark.cell
@pytest.mark.anyio
async def test_a_cell_that_is_not_broken_fails_at_no_probe(matrix: Matrix) -> None:
    unbroken = row(matrix, "nothing is broken")
    assert not unbroken.complaint()
    assert not unbroken.failed


@pytest.mark.cell
@pytest.mark.anyio
async def test_the_matrix_covers_every_probe_and_says_so(matrix: Matrix) -> None:
    assert set(matrix.uncovered) == {*UNBROKEN, *DRILLED_ELSEWHERE}
    assert "not tried: security_label (it is recorded and never fails)" in matrix.render()
    assert "WRONG" not in matrix.render()


@pytest.mark.slow
@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize(
    "runtime", [pytest.param("runsc", marks=pytest.mark.runsc), pytest.param("docker", marks=pytest.mark.docker)]
)
async def test_cells_that_the_machine_cannot_see_into_fail_at_their_own_probes_too(runtime: RuntimeName) -> None:
    found = await selftest(CellConfig(runtime=runtime), SAMPLE[runtime])
    assert found.holds, found.render()
    assert {row.probe for row in found.rows if row.probe in row.failed} == set(SAMPLE[runtime])


def test_every_breakage_names_known_probes() -> None:
    named = {name for each in INJECTED_DEFECTS for name in (each.probe, *each.related)}
    assert named <= set(PROBE_NAMES)
    assert all(each.related.get(each.probe) is None for each in INJECTED_DEFECTS)


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


def test_a_probe_without_a_breakage_leaves_the_matrix_open() -> None:
    whole = Matrix(runtime="runc", rows=(finding(["own_ipc"]),), seconds=0)
    assert whole.holds
    assert not whole.model_copy(update={"uncovered": {"own_ipc": "there is no defect for it"}}).holds
