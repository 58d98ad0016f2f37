"""The compose file of one cell: a pure function of its configuration, like `oci/spec.py` for OCI runtimes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redline.cell.config import CellConfig
from redline.cell.docker.engine import LABEL_CELL, LABEL_OWNER, LABEL_STATE
from redline.cell.docker.image import Image
from redline.cell.errors import CellError
from redline.cell.spec import (
    AGENT_ID,
    HOME,
    INIT_CAPABILITIES,
    INIT_PROGRAM,
    INODES_PER_MIB,
    TETHER_FOLDER,
    TETHER_MIB,
    seccomp,
)

OWN_PIDS = 16
"""Processes of redline in a node (first process, attendant, calls in progress), in addition to the cell's limit."""

OWN_MIB = 64
"""Memory of these processes."""

OPENINGS = ("networks", "ports", "expose", "links", "external_links")
"""Keys of a service that connect it to something outside, whatever its network."""

SECCOMP_FILE = "seccomp.json"


@dataclass(frozen=True)
class CellOrigin:
    """The harness and the cell that a container belongs to."""

    state: Path
    owner: str
    cell: str
    seccomp: Path
    """File of the system call filter, which the engine reads when it makes a container."""

    @property
    def labels(self) -> dict[str, str]:
        """Labels by which a sweep finds what a dead harness left."""
        return {LABEL_STATE: str(self.state), LABEL_OWNER: self.owner, LABEL_CELL: self.cell}


def compose_services(config: CellConfig, image: Image, origin: CellOrigin, hostname: str) -> dict[str, dict[str, Any]]:
    """Return the services of a cell, one for each node.

    Args:
        config: The cell's nodes and quotas.
        image: Image of the containers.
        origin: The harness and the cell.
        hostname: Hostname inside, for all nodes: the engine gives nodes that share a network one name.
    """
    services: dict[str, dict[str, Any]] = {}
    for name in config.nodes:
        first = name == "default"
        services[name] = {
            **_service(config, image, origin),
            **(_closed_network(hostname) if first else _JOINED_NETWORK),
        }
    return services


def write_compose_file(folder: Path, services: dict[str, dict[str, Any]]) -> Path:
    """Write the compose file of a cell into its folder.

    JSON is YAML too and quotes every string; the engine would read an unquoted id such as 6978e244 as a number.
    """
    path = folder / "compose.yaml"
    path.write_text(json.dumps({"services": services}, indent=1))
    return path


def write_seccomp_file(folder: Path) -> Path:
    """Write the system call filter of every cell; Docker's format is that of the OCI specification."""
    path = folder / SECCOMP_FILE
    path.write_text(json.dumps(seccomp(), indent=1))
    return path


def _service(config: CellConfig, image: Image, origin: CellOrigin) -> dict[str, Any]:
    memory = f"{config.memory_mib + OWN_MIB}m"
    return {
        "image": image.name,
        "pull_policy": "never",
        "x-local": True,  # Inspect pulls no image that is marked so
        "entrypoint": [image.interpreter, "-I", "-S", INIT_PROGRAM],
        "command": [],
        "working_dir": "/",
        # Root, so that the agent can neither signal nor limit the first process. Programs of redline that run as root
        # drop these capabilities before they start anything, as in cells of the other runtimes.
        "user": "0:0",
        "cap_drop": ["ALL"],
        "cap_add": [name.removeprefix("CAP_") for name in INIT_CAPABILITIES],
        "security_opt": ["no-new-privileges:true", f"seccomp:{origin.seccomp}"],
        "privileged": False,
        "read_only": True,
        "tmpfs": [
            _tmpfs("/tmp", config.tmp_mib, "exec", "mode=1777"),
            _tmpfs("/var/tmp", config.var_tmp_mib, "exec", "mode=1777"),
            _tmpfs(HOME, config.home_mib, "exec", "mode=755", f"uid={AGENT_ID}", f"gid={AGENT_ID}"),
            _tmpfs("/dev/shm", config.shm_mib, "exec", "mode=1777"),
            _tmpfs(TETHER_FOLDER, TETHER_MIB, "mode=755"),
            # Empty: the engine would show the host's devices and a second writable folder.
            "/sys:ro,size=4k,mode=555",
            "/dev/mqueue:ro,size=4k,mode=555",
        ],
        "ipc": "private",
        "cgroup": "private",
        "pids_limit": config.pids + OWN_PIDS,
        "mem_limit": memory,
        "memswap_limit": memory,
        "cpus": config.cpus,
        "ulimits": {"nofile": config.open_files, "core": 0},
        "init": False,
        "stop_signal": "SIGKILL",
        "restart": "no",
        "healthcheck": {"disable": True},
        "logging": {"driver": "none"},
        "labels": origin.labels,
    }


def _tmpfs(folder: str, size_mib: int, *options: str) -> str:
    words = ("nosuid", "nodev", *options, f"size={size_mib}m", f"nr_inodes={max(64, size_mib * INODES_PER_MIB)}")
    return f"{folder}:{','.join(words)}"


def require_closed_services(services: dict[str, dict[str, Any]]) -> None:
    """Refuse the services of a compose file unless the first one has only loopback and the others share that.

    By default, an engine joins a service to a network that leads out.

    Raises:
        CellError: The network would not be closed.
    """
    if "default" not in services:
        raise CellError("a cell is not made without its first node")
    for name, service in services.items():
        wanted = "none" if name == "default" else _JOINED_NETWORK["network_mode"]
        if service.get("network_mode") != wanted or any(service.get(key) for key in OPENINGS):
            raise CellError("a cell is not made without a closed network of its own")


def _closed_network(hostname: str) -> dict[str, Any]:
    """Return a network with only loopback. By default, the engine lets every user bind low ports and send pings."""
    return {
        "network_mode": "none",
        "hostname": hostname,
        "extra_hosts": {"node1": "127.0.0.1", "node2": "127.0.0.2"},
        "dns": ["127.0.0.1"],  # by default, the file names the servers of the host
        "dns_search": ["."],
        "sysctls": {"net.ipv4.ip_unprivileged_port_start": "1024", "net.ipv4.ping_group_range": "1 0"},
    }


_JOINED_NETWORK = {"network_mode": "service:default"}
