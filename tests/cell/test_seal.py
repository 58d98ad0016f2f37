"""The quick seal holds on a good cell and fails, at its own probe, on a cell broken in one way."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import redline
from redline.cell import CellConfig, open_cell
from redline.cell import cell as cell_module
from redline.cell import warden as warden_module
from redline.cell.seal import quick_seal
from redline.cell.seal.probes import QUICK, Facts
from redline.cell.skeleton import build_skeleton
from redline.cell.spec import host_spec

Break = Callable[[dict[str, Any]], None]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Break], None]:
    """Makes the cells of a test be broken in a given way."""

    def install(change: Break) -> None:
        def composed(*given: Any) -> dict[str, Any]:
            spec = host_spec(*given)
            change(spec)
            return spec

        monkeypatch.setattr(cell_module, "host_spec", composed)

    return install


async def failures(host: str = "default") -> set[str]:
    async with open_cell(CellConfig()) as cell:
        report = await quick_seal(cell, host=host)
        return {finding.name for finding in report.failed}


@pytest.mark.cell
@pytest.mark.anyio
async def test_the_seal_of_both_hosts_is_proved() -> None:
    async with open_cell(CellConfig(hosts=("default", "target"))) as cell:
        for host in cell.hosts:
            report = await quick_seal(cell, host=host)
            assert report.verified, report.summary()
            assert len(report.passed) == len(QUICK)


@pytest.mark.cell
@pytest.mark.anyio
async def test_a_cell_that_is_gone_is_not_sealed() -> None:
    async with open_cell(CellConfig()) as cell:
        await cell.kill()
        report = await quick_seal(cell)
        assert not report.verified
        assert len(report.failed) == len(QUICK)


@pytest.mark.cell
@pytest.mark.anyio
async def test_an_agent_that_guards_against_no_one_is_seen(broken: Callable[[Break], None]) -> None:
    async with open_cell(CellConfig()) as cell:
        process = await cell.spawn(["sleep", "100"])
        report = await quick_seal(cell, guarded=[process])
        assert [finding.name for finding in report.failed] == ["refused_system_calls"]


def without_filter(spec: dict[str, Any]) -> None:
    del spec["linux"]["seccomp"]


def with_a_hole_in_the_filter(spec: dict[str, Any]) -> None:
    calls = spec["linux"]["seccomp"]["syscalls"]
    hole = {"names": ["userfaultfd"], "action": "SCMP_ACT_ALLOW"}
    spec["linux"]["seccomp"] = {**spec["linux"]["seccomp"], "syscalls": [*calls, hole]}


def with_new_privileges(spec: dict[str, Any]) -> None:
    spec["process"]["noNewPrivileges"] = False


def with_a_writable_root(spec: dict[str, Any]) -> None:
    options = ["nosuid", "nodev", "uid=1000", "gid=1000", "size=8m"]
    spec["mounts"].append({"destination": "/root", "type": "tmpfs", "source": "tmpfs", "options": options})


def without_a_quota(spec: dict[str, Any]) -> None:
    for mount in spec["mounts"]:
        if mount["destination"] == "/var/tmp":
            mount["options"] = [option for option in mount["options"] if not option.startswith("size=")]


SOURCE = str(Path(redline.__file__).parent)


def with_the_harness_inside(spec: dict[str, Any]) -> None:
    spec["mounts"].append({"destination": SOURCE, "type": "bind", "source": SOURCE, "options": ["rbind", "ro"]})


@pytest.mark.cell
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "probe"),
    [
        (without_filter, "refused_system_calls"),
        (with_a_hole_in_the_filter, "refused_system_calls"),
        (with_new_privileges, "no_new_privileges"),
        (with_a_writable_root, "read_only_root"),
        (without_a_quota, "read_only_root"),
    ],
)
async def test_a_broken_cell_fails_at_its_own_probe(broken: Callable[[Break], None], change: Break, probe: str) -> None:
    broken(change)
    assert await failures() == {probe}


@pytest.mark.cell
@pytest.mark.anyio
async def test_a_socket_of_the_machine_inside_is_seen(broken: Callable[[Break], None], tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "daemon.sock"))
        broken(
            lambda spec: spec["mounts"].append(
                {
                    "destination": "/root",
                    "type": "bind",
                    "source": str(folder),
                    "options": ["bind", "ro", "nosuid", "nodev"],
                }
            )
        )
        assert await failures() == {"declared_sockets"}


@pytest.mark.cell
@pytest.mark.anyio
async def test_the_harness_inside_is_seen(broken: Callable[[Break], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*given: Any) -> Path:
        root = build_skeleton(*given)
        (root / SOURCE.lstrip("/")).mkdir(parents=True)
        return root

    monkeypatch.setattr(warden_module, "build_skeleton", build)
    broken(with_the_harness_inside)
    assert await failures() == {"harness_hidden"}


@pytest.fixture
def made_network() -> Iterator[str]:
    """A network namespace of the test's own with a second interface that leads nowhere."""
    name = "redline-test"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(
            ["ip", "-n", name, "link", "add", "uplink", "type", "veth", "peer", "name", "nowhere"], check=True
        )
        yield f"/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.cell
@pytest.mark.anyio
async def test_an_interface_beside_lo_is_seen(broken: Callable[[Break], None], made_network: str) -> None:
    def join(spec: dict[str, Any]) -> None:
        for namespace in spec["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = made_network

    broken(join)
    assert await failures() == {"no_network"}


@pytest.mark.parametrize("probe", QUICK, ids=lambda probe: probe.name)
def test_a_probe_without_facts_fails(probe: Any) -> None:
    assert probe.judge(Facts()) is not None
