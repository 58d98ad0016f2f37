from pathlib import Path

import anyio
import pytest

from redline.cell import CellConfig, open_cell
from redline.cell.docker.compose import CellOrigin, compose_services, write_compose_file
from redline.cell.docker.engine import LABEL_CELL
from redline.cell.docker.image import Image, base_images

IMAGE = Image("redline-cell:x", "/usr/bin/python3", "base")
PLACE = CellOrigin(Path("/state"), "owner", "cell", Path("/state/owner/seccomp.json"))


def test_every_node_is_closed_and_nothing_is_pulled() -> None:
    services = compose_services(CellConfig(nodes=("default", "target")), IMAGE, PLACE, "node1")
    assert [services[name]["network_mode"] for name in ("default", "target")] == ["none", "service:default"]
    for service in services.values():
        assert service["pull_policy"] == "never"
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert not {"volumes", "environment", "ports", "devices"} & set(service)


@pytest.mark.parametrize("cell", ["6978e244", "09483866", "0123", "null"])
def test_an_id_that_looks_like_a_number_stays_text_to_the_engine(cell: str, tmp_path: Path) -> None:
    place = CellOrigin(PLACE.state, "1e5", cell, PLACE.seccomp)
    file = write_compose_file(tmp_path, compose_services(CellConfig(), IMAGE, place, "node1"))
    assert f'"{LABEL_CELL}": "{cell}"' in file.read_text()


def test_only_a_requested_image_is_tried() -> None:
    assert base_images(["redline-base:test", "other:1"], "other:1") == ["other:1"]
    assert base_images(["other:1"], None) == []


@pytest.mark.long
@pytest.mark.docker
@pytest.mark.anyio
async def test_the_agent_has_no_power_and_only_loopback() -> None:
    with anyio.fail_after(40):
        async with open_cell(CellConfig(runtime="docker")) as cell:
            script = "id -u; grep CapBnd /proc/self/status; ls /proc/sys/net/ipv4/conf"
            done = await cell.exec(["sh", "-c", script])
    assert done.stdout.decode().split() == ["1000", "CapBnd:", "0000000000000000", "all", "default", "lo"]
