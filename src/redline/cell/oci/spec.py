"""The OCI specification of one node of a cell: a pure function of its configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redline.cell.config import CellConfig
from redline.cell.errors import CellError
from redline.cell.spec import (
    AGENT_ID,
    ATTENDANT_PROGRAM,
    HOME,
    INIT_CAPABILITIES,
    INIT_PROGRAM,
    INODES_PER_MIB,
    MASKED_PROC,
    READONLY_PROC,
    TETHER_FOLDER,
    TETHER_MIB,
    seccomp,
)
from redline.cell.state import IdMaps
from redline.cell.toolset import Toolset

OCI_VERSION = "1.0.2"

ATTENDANT_CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_SYS_PTRACE"]
"""Additional capabilities of an attendant: to read what the agent runs and wrote, and to install the subject."""

POD = "io.kubernetes.cri"
"""Prefix of the annotations by which gVisor finds the sandbox that a container joins."""

GVISOR_MIB = 512
"""Memory of gVisor's kernel and file servers, in addition to the cell's own."""

OWN_PROCESSES = 2
"""Processes of redline in each node: the first process, and its fork that starts a command or the attendant."""


@dataclass(frozen=True)
class NodeSpec:
    """What is particular to one node, in addition to the cell's configuration."""

    hostname: str
    root: Path
    """The skeleton that is the node's root file system."""

    init: Path
    """The program of the first process."""

    tether: Path
    """The folder outside in which the tether's socket is bound."""

    ids: IdMaps
    cgroup: str | None
    """Path of the cgroup; None if this user can make none."""

    shares: int | None = None
    """Pid of the first node's first process, whose user and network namespaces are joined; None for the first node."""

    attendant: Path | None = None
    """The program that observes from inside a cell that the host cannot see into; None for other cells."""

    name: str = "default"
    """The node's name, which its attendant gets."""

    pod: str | None = None
    """With several nodes under one kernel of gVisor, the container that holds the sandbox."""


def node_spec(config: CellConfig, node: NodeSpec, tools: Toolset) -> dict[str, Any]:
    """Return the `config.json` of one node.

    Args:
        config: The cell's quotas.
        node: What is particular to this node.
        tools: The part of the host that it sees.

    Returns:
        The specification, ready to be written as JSON.
    """
    linux: dict[str, Any] = {
        "namespaces": _namespaces(node.shares),
        "uidMappings": [piece.oci() for piece in node.ids.users],
        "gidMappings": [piece.oci() for piece in node.ids.groups],
        "maskedPaths": [*MASKED_PROC, *tools.masked],
        "readonlyPaths": list(READONLY_PROC),
        "seccomp": seccomp(),
        "rootfsPropagation": "rprivate",
    }
    if node.cgroup is not None:
        linux["cgroupsPath"] = node.cgroup
        linux["resources"] = _resources(config)
    spec = {
        "ociVersion": OCI_VERSION,
        "hostname": node.hostname,
        "root": {"path": str(node.root), "readonly": True},
        "process": _init_process(config, tools, node),
        "mounts": _mounts(config, node, tools),
        "linux": linux,
    }
    return spec if node.attendant is None else _for_gvisor(spec, config, node, tools)


def _for_gvisor(spec: dict[str, Any], config: CellConfig, node: NodeSpec, tools: Toolset) -> dict[str, Any]:
    """Return the specification as gVisor supports it.

    gVisor has no masked paths and no recursive read-only mounts. A limit on processes from outside would kill its
    kernel instead of refusing a process, so that limit is set inside.
    """
    linux = {key: value for key, value in spec["linux"].items() if key not in ("maskedPaths", "readonlyPaths")}
    linux["resources"] = {key: value for key, value in linux["resources"].items() if key not in ("pids", "devices")}
    # Its kernel and file servers count towards the memory limit, too.
    linux["resources"]["memory"] = {"limit": (config.memory_mib + GVISOR_MIB) << 20}
    linux["seccomp"] = {**spec["linux"]["seccomp"], "syscalls": [_absent(rule) for rule in seccomp()["syscalls"]]}
    if node.shares is not None:
        linux["namespaces"] = _namespaces(None)
    annotations = {}
    if node.pod is not None:
        kind = "container" if node.name else "sandbox"
        annotations = {f"{POD}.container-type": kind, f"{POD}.sandbox-id": node.pod}
    return {**spec, "linux": linux, "annotations": annotations}


def _absent(rule: dict[str, Any]) -> dict[str, Any]:
    """Return a rule that refuses a call with ENOSYS on gVisor.

    gVisor supports no error other than EPERM, with which glibc starts no thread after clone3. A call that is passed to
    a tracer fails with ENOSYS if there is none, and there can be none, since ptrace is refused.
    """
    if rule.get("errnoRet") is None:
        return rule
    return {"names": rule["names"], "action": "SCMP_ACT_TRACE"}


def _namespaces(shares: int | None) -> list[dict[str, str]]:
    own = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")]
    if shares is None:
        return [*own, {"type": "network"}, {"type": "user"}]
    joined = {"network": "net", "user": "user"}
    return [*own, *({"type": kind, "path": f"/proc/{shares}/ns/{file}"} for kind, file in joined.items())]


def require_closed_network(spec: dict[str, Any], shares: int | None = None) -> None:
    """Refuse a specification unless its node gets a network of its own, or that of its cell's first node.

    A runtime uses the host's namespace for a kind that is not listed, so exactly one correct entry is required.

    Args:
        spec: The specification that the runtime is about to get.
        shares: Pid of the first node's first process, whose network is joined; None for the first node.

    Raises:
        CellError: The network would not be closed.
    """
    wanted = next(entry for entry in _namespaces(shares) if entry["type"] == "network")
    namespaces = spec.get("linux", {}).get("namespaces") or ()
    if [entry for entry in namespaces if entry.get("type") == "network"] != [wanted]:
        raise CellError("a cell is not made without a closed network of its own")


def _init_process(config: CellConfig, tools: Toolset, node: NodeSpec) -> dict[str, Any]:
    limits = {"RLIMIT_NOFILE": config.open_files, "RLIMIT_CORE": 0}
    inside = node.attendant is not None
    if node.cgroup is None or inside:
        # This counts only the agent's processes, and those of redline need room within the node's limit, too.
        limits["RLIMIT_NPROC"] = config.pids - OWN_PROCESSES
    capabilities = [*INIT_CAPABILITIES, *(ATTENDANT_CAPABILITIES if inside else ())]
    process: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "cwd": "/",
        "args": [tools.interpreter, "-I", "-S", INIT_PROGRAM, *((node.name,) if inside and node.name else ())],
        "env": [f"PATH={tools.path}", "LANG=C.UTF-8"],
        "noNewPrivileges": True,
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
            "inheritable": [],
            "ambient": [],
        },
        "rlimits": [{"type": kind, "hard": value, "soft": value} for kind, value in limits.items()],
    }
    if node.cgroup is not None:
        process["oomScoreAdj"] = 0
    return process


def _mounts(config: CellConfig, node: NodeSpec, tools: Toolset) -> list[dict[str, Any]]:
    readonly = ["rbind", "rro", "rnosuid", "rnodev", "rprivate"]
    if node.attendant is not None:
        readonly = ["rbind", "ro", "nosuid", "nodev", "rprivate"]
    # A hollow folder covers a part of a bound folder; paths bound below it are visible in it again.
    below = [path for path in tools.bound if any(path.startswith(folder + "/") for folder in tools.hollow)]
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "nodev", "noexec"]}]
    mounts += [_bind(path, path, readonly) for path in tools.bound if path not in below]
    mounts += [_tmpfs(folder, 1, "ro") for folder in tools.hollow]
    mounts += [_bind(path, path, readonly) for path in below]
    mounts += [
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
        _tmpfs("/dev/shm", config.shm_mib, "mode=1777"),
        _tmpfs("/tmp", config.tmp_mib, "mode=1777"),
        _tmpfs("/var/tmp", config.var_tmp_mib, "mode=1777"),
        _tmpfs(HOME, config.home_mib, "mode=755", f"uid={AGENT_ID}", f"gid={AGENT_ID}"),
        _bind(str(node.init), INIT_PROGRAM, ["bind", "ro", "nosuid", "nodev", "noexec"]),
    ]
    if node.attendant is None:
        return [*mounts, _bind(str(node.tether), TETHER_FOLDER, ["bind", "ro", "nosuid", "nodev", "noexec"])]
    masks = [_tmpfs(folder, 1, "ro") for folder in tools.masked if Path(folder).is_dir()]
    return [
        *mounts,
        *masks,
        _bind(str(node.attendant), ATTENDANT_PROGRAM, ["bind", "ro", "nosuid", "nodev", "noexec"]),
        _tmpfs(TETHER_FOLDER, TETHER_MIB, "mode=755", "noexec"),
    ]


def _bind(source: str, destination: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def _tmpfs(destination: str, size_mib: int, *options: str) -> dict[str, Any]:
    quota = [f"size={size_mib}m", f"nr_inodes={max(64, size_mib * INODES_PER_MIB)}"]
    return {
        "destination": destination,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "nodev", *options, *quota],
    }


def _resources(config: CellConfig) -> dict[str, Any]:
    memory = config.memory_mib << 20
    period = 100_000
    return {
        "memory": {"limit": memory},
        "pids": {"limit": config.pids},
        "cpu": {"period": period, "quota": int(period * config.cpus)},
        "devices": [{"allow": False, "access": "rwm"}],
    }
