"""A broken network has no way out, and a defect leaves nothing behind."""

import os
import socket
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from redline.cell import CellConfig
from redline.seal.broken import Bench, DefectiveCell, InjectedDefect, Spec, namespace, workbench
from redline.seal.broken_network import NETWORKS

RUNC = CellConfig(runtime="runc")
PROGRAM = files("redline.seal").joinpath("programs/defects.py").read_text()
MACHINE = os.readlink("/proc/self/ns/net")


def interfaces(pid: int) -> set[str]:
    return {line.split(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]}


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize("defect", NETWORKS, ids=lambda each: each.what.replace(" ", "-"))
async def test_a_broken_network_is_joined_to_no_network_of_the_machine(defect: InjectedDefect) -> None:
    assert defect.broken is not None
    async with defect.broken.open(RUNC) as cell:
        init = cell.nodes["default"].init_pid
        assert interfaces(init) <= {"lo", "uplink"}
        assert os.readlink(f"/proc/{init}/ns/net") != MACHINE
        # A wire has two ends, and neither is on the machine.
        assert not {"uplink", "far"} & {name for _, name in socket.if_nameindex()}


@pytest.mark.cell
@pytest.mark.anyio
async def test_the_far_end_of_a_wire_lies_in_a_namespace_that_holds_nothing_else() -> None:
    async with DefectiveCell().open(RUNC) as cell:
        request = {"action": "lay_wire", "addresses": ["192.0.2.2", "192.0.2.1"], "listeners": []}
        _, (far,) = await cell.run_with_cell_privileges(PROGRAM, request)
        answer, _ = await cell.run_with_cell_privileges(LOOK, {}, held=[far])
        assert sorted(answer["names"]) == ["far", "lo"]
        assert os.readlink(f"/proc/self/fd/{far}") != MACHINE
        await cell.release([far])


LOOK = """
import socket
def main(request, fds):
    join_namespace(fds[0], 0x40000000)
    return {"names": [name for _, name in socket.if_nameindex()]}, []
"""

OPEN_NETWORK = """
set_up("lo")
add_wire("near", "away", os.open("/proc/self/ns/net", os.O_RDONLY))
add_address("near", "198.51.100.2", 24)
set_up("near")
set_up("away")
require_closed({"lo", "near", "away"})
"""

FOREIGN_INTERFACE = """
set_up("lo")
add_wire("near", "away", os.open("/proc/self/ns/net", os.O_RDONLY))
require_closed({"lo", "near"})
"""


@pytest.mark.cell
@pytest.mark.parametrize(("made", "reason"), [(OPEN_NETWORK, "has a way to"), (FOREIGN_INTERFACE, "has interfaces")])
def test_a_network_that_leads_somewhere_is_not_used(made: str, reason: str) -> None:
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-I", "-S", "-c", PROGRAM + made],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert reason in done.stderr


def survivor(spec: Spec, bench: Bench) -> None:
    bench.stray_cgroup(spec)
    for kind, path in bench.hold_namespaces(spec).items():
        namespace(spec, kind, path)


@pytest.mark.cell
@pytest.mark.anyio
async def test_what_a_broken_cell_left_running_ends_with_the_breakage() -> None:
    async with DefectiveCell(survivor).open(RUNC) as cell:
        left = await cell.spawn(["sleep", "1000"])
        place = Path(f"/proc/{left.pid}/cgroup").read_text().splitlines()[-1].split(":")[2]
        assert "stray" in place
        await cell.kill()
        assert Path(f"/proc/{left.pid}").exists()
    assert not Path(f"/proc/{left.pid}").exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*{place}"))


def test_a_workbench_leaves_no_folder() -> None:
    with workbench() as bench:
        (bench.folder / "thing").write_text("")
    assert not bench.folder.exists()
