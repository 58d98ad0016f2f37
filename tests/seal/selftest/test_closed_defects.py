"""A broken network has no route out, and a defect leaves nothing on the host."""

import os
import socket
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from redline.cell import CellConfig
from redline.seal.defects import DefectiveCell, InjectedDefect, Spec, Workbench, open_workbench
from redline.seal.defects.network import NETWORKS
from redline.seal.defects.oci import join_namespace

RUNC = CellConfig(runtime="runc")
PROGRAM = files("redline.seal").joinpath("programs/defects.py").read_text()
HOST = os.readlink("/proc/self/ns/net")


def interfaces(pid: int) -> set[str]:
    return {line.split(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]}


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize("defect", NETWORKS, ids=lambda each: each.description.replace(" ", "-"))
async def test_a_broken_network_is_not_connected_to_a_network_of_the_host(defect: InjectedDefect) -> None:
    assert defect.broken is not None
    async with defect.broken.open(RUNC) as cell:
        init = cell.nodes["default"].init_pid
        assert interfaces(init) <= {"lo", "uplink"}
        assert os.readlink(f"/proc/{init}/ns/net") != HOST
        # Neither end of the virtual link is on the host.
        assert not {"uplink", "far"} & {name for _, name in socket.if_nameindex()}


@pytest.mark.cell
@pytest.mark.anyio
async def test_the_far_end_of_a_link_is_in_a_namespace_that_contains_nothing_else() -> None:
    async with DefectiveCell().open(RUNC) as cell:
        request = {"action": "add_link", "addresses": ["192.0.2.2", "192.0.2.1"], "listeners": []}
        _, (far,) = await cell.run_with_cell_privileges(PROGRAM, request)
        answer, _ = await cell.run_with_cell_privileges(LIST_INTERFACES, {}, held=[far])
        assert sorted(answer["names"]) == ["far", "lo"]
        assert os.readlink(f"/proc/self/fd/{far}") != HOST
        await cell.release([far])


LIST_INTERFACES = """
import socket
def main(request, fds):
    join_namespace(fds[0], 0x40000000)
    return {"names": [name for _, name in socket.if_nameindex()]}, []
"""

OPEN_NETWORK = """
set_up("lo")
add_veth("near", "away", os.open("/proc/self/ns/net", os.O_RDONLY))
add_address("near", "198.51.100.2", 24)
set_up("near")
set_up("away")
require_closed({"lo", "near", "away"})
"""

FOREIGN_INTERFACE = """
set_up("lo")
add_veth("near", "away", os.open("/proc/self/ns/net", os.O_RDONLY))
require_closed({"lo", "near"})
"""


@pytest.mark.cell
@pytest.mark.parametrize(("made", "reason"), [(OPEN_NETWORK, "has a route to"), (FOREIGN_INTERFACE, "has interfaces")])
def test_a_network_that_is_not_closed_is_not_used(made: str, reason: str) -> None:
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-I", "-S", "-c", PROGRAM + made],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert reason in done.stderr


def survivor(spec: Spec, bench: Workbench) -> None:
    bench.stray_cgroup(spec)
    for kind, path in bench.hold_namespaces(spec).items():
        join_namespace(spec, kind, path)


@pytest.mark.cell
@pytest.mark.anyio
async def test_a_process_that_a_broken_cell_left_running_ends_with_the_defect() -> None:
    async with DefectiveCell(survivor).open(RUNC) as cell:
        left = await cell.spawn(["sleep", "1000"])
        cgroup = Path(f"/proc/{left.pid}/cgroup").read_text().splitlines()[-1].split(":")[2]
        assert "stray" in cgroup
        await cell.kill()
        assert Path(f"/proc/{left.pid}").exists()
    assert not Path(f"/proc/{left.pid}").exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*{cgroup}"))


def test_a_workbench_leaves_no_folder() -> None:
    with open_workbench() as bench:
        (bench.folder / "file").write_text("")
    assert not bench.folder.exists()
