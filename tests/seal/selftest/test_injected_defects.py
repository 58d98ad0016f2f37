"""Each injected defect fails its own probe and no unrelated one, on every runtime."""

import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

import redline
from redline.cell.config import CellConfig, RuntimeName
from redline.seal import PROBE_NAMES
from redline.seal.defects import InjectedDefect, oci
from redline.seal.matrix import NEVER_FAILS, Matrix, Row
from redline.seal.selftest import INJECTED_DEFECTS, selftest

SAMPLE = {
    "runc": ("no_network", "canary_unreadable", "read_only_root", "limits_bite", "kill_drill", "harness_hidden"),
    "runsc": ("canary_unreadable", "kill_drill"),
    "docker": ("canary_unreadable", "few_devices", "own_ipc"),
}
"""The probes to test in a short time; `redline seal --selftest` tests all of them."""

DRILLED_ELSEWHERE = ("tether_only_protocol", "alarm_arrives", "prompts_agree")
"""Probes whose defects belong to layers above the seal."""


def label(defect: InjectedDefect) -> str:
    return defect.description.replace(" ", "-")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def matrix(anyio_backend: str) -> AsyncIterator[Matrix]:
    yield await selftest(CellConfig(runtime="runc"))


def row(matrix: Matrix, description: str) -> Row:
    (found,) = (row for row in matrix.rows if row.description == description)
    return found


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize("defect", INJECTED_DEFECTS, ids=label)
@pytest.mark.long
async def test_a_defect_fails_its_own_probe_only(matrix: Matrix, defect: InjectedDefect) -> None:
    found = row(matrix, defect.description)
    assert not found.left_out, "on runc as root, every defect can be injected"
    assert not found.complaint()
    assert found.probe in found.failed


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.long
async def test_a_cell_without_a_defect_fails_no_probe(matrix: Matrix) -> None:
    correct = row(matrix, "no defect")
    assert not correct.complaint()
    assert not correct.failed


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.long
async def test_the_matrix_covers_every_probe_and_names_the_exceptions(matrix: Matrix) -> None:
    assert set(matrix.uncovered) == {*NEVER_FAILS, *DRILLED_ELSEWHERE}
    assert "not tested: security_label (it only warns)" in matrix.render()
    assert "WRONG" not in matrix.render()


@pytest.mark.slow
@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize(
    "runtime",
    [
        "runc",
        pytest.param("runsc", marks=[pytest.mark.runsc, pytest.mark.long]),
        pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.long]),
    ],
)
async def test_defects_fail_their_own_probes_on_each_runtime(runtime: RuntimeName) -> None:
    found = await selftest(CellConfig(runtime=runtime), SAMPLE[runtime])
    assert found.holds, found.render()
    assert {row.probe for row in found.rows if row.probe in row.failed} == set(SAMPLE[runtime])


@pytest.mark.long
@pytest.mark.cell
@pytest.mark.anyio
async def test_a_file_of_the_harness_is_found_where_redline_is_installed_below_a_mount_of_the_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        installed = Path(folder, "redline", "__init__.py")
        installed.parent.mkdir()
        installed.write_text("")
        monkeypatch.setattr(redline, "__file__", str(installed))
        monkeypatch.setattr(oci, "HARNESS_FILE", installed)
        found = await selftest(CellConfig(runtime="runc"), ["harness_hidden"])
    assert found.holds, found.render()


def test_every_defect_names_known_probes() -> None:
    named = {name for each in INJECTED_DEFECTS for name in (each.probe, *each.related)}
    assert named <= set(PROBE_NAMES)
    assert all(each.related.get(each.probe) is None for each in INJECTED_DEFECTS)


def finding(failed: Sequence[str], passed: Sequence[str] = (), **more: object) -> Row:
    fields = {"probe": "own_ipc", "description": "a defect", "failed": dict.fromkeys(failed, "found"), "passed": passed}
    return Row.model_validate({**fields, **more})


def test_a_defect_that_its_probe_does_not_detect_does_not_hold() -> None:
    assert not finding([], ["own_ipc"]).holds


def test_a_defect_that_fails_an_unrelated_probe_does_not_hold() -> None:
    assert not finding(["own_ipc", "no_network"]).holds


def test_a_defect_that_fails_a_related_probe_holds() -> None:
    assert finding(["own_ipc", "no_network"], related={"no_network": "necessarily"}).holds


def test_a_defect_that_could_not_be_measured_does_not_hold() -> None:
    assert not finding(["own_ipc"], error="an error").holds


def test_a_failing_cell_without_a_defect_does_not_hold() -> None:
    assert not Row(probe="", description="no defect", failed={"own_ipc": "found"}).holds


def test_a_matrix_with_a_probe_that_has_no_defect_does_not_hold() -> None:
    whole = Matrix(runtime="runc", rows=(finding(["own_ipc"]),), seconds=0)
    assert whole.holds
    assert not whole.model_copy(update={"uncovered": {"own_ipc": "no defect is defined for it"}}).holds
