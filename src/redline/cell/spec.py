"""The OCI specification of one node of a cell: a pure function of what it is made of."""

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from redline._base import read_toml
from redline.cell.config import CellConfig
from redline.cell.errors import CellError
from redline.cell.machine import Toolset

OCI_VERSION = "1.0.2"
AGENT_ID = 1000
HOME = "/home/agent"
TETHER_FOLDER = "/run/accelerator"
TETHER_MIB = 1
INIT_PROGRAM = "/run/init"
ATTENDANT_PROGRAM = "/run/attendant"
ATTENDANT_CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_SYS_PTRACE"]
"""What an attendant needs beside: to look into what the agent runs and wrote, and to install the subject."""

POD = "io.kubernetes.cri"
"""Where gVisor looks for the sandbox that a container joins."""

GVISOR_MIB = 512
"""Memory of gVisor's own kernel and file servers, beside what the cell may use."""

OWN_PROCESSES = 2
"""Of ours in each node: the first process, and what it forks to start a command or the attendant."""

INODES_PER_MIB = 64
"""A file system of small files costs kernel memory beyond its size: 480,000 empty files took 440 MiB."""

INIT_CAPABILITIES = ["CAP_KILL", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID"]
"""What starts and stops commands as another user; the init sheds the rest, and nothing it starts has any."""

MASKED_PROC = tuple(
    f"/proc/{name}"
    for name in [
        "acpi",
        "asound",
        "cmdline",
        "config.gz",
        "interrupts",
        "kallsyms",
        "kcore",
        "keys",
        "key-users",
        "kmsg",
        "kpagecgroup",
        "kpagecount",
        "kpageflags",
        "latency_stats",
        "modules",
        "sched_debug",
        "scsi",
        "slabinfo",
        "timer_list",
        "timer_stats",
        "vmallocinfo",
        "version_signature",
    ]
)
READONLY_PROC = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/proc/driver")

ARCHITECTURES = {"x86_64": ["SCMP_ARCH_X86_64"], "aarch64": ["SCMP_ARCH_AARCH64"]}


@dataclass(frozen=True)
class IdSlice:
    """One contiguous piece of an id mapping."""

    inside: int
    outside: int
    size: int

    def oci(self) -> dict[str, int]:
        """The piece in the words of the OCI specification."""
        return {"containerID": self.inside, "hostID": self.outside, "size": self.size}


@dataclass(frozen=True)
class IdMaps:
    """How the user and group ids inside map to the machine's."""

    users: tuple[IdSlice, ...]
    groups: tuple[IdSlice, ...]


@dataclass(frozen=True)
class NodeSpec:
    """What one node is made of, beside the cell's configuration."""

    hostname: str
    root: Path
    """The skeleton that is the node's root file system."""

    init: Path
    """The program of the first process."""

    tether: Path
    """The folder in which the outside binds the tether's socket."""

    ids: IdMaps
    cgroup: str | None
    """Path of the cgroup, None where this user may make none."""

    shares: int | None = None
    """Pid of the first node's init whose user and network namespaces are joined, None for the first node."""

    attendant: Path | None = None
    """The program that works inside where the machine cannot see in (gVisor), None where it can."""

    name: str = "default"
    """The node's name, which its attendant is told."""

    pod: str | None = None
    """Where gVisor runs several nodes under one kernel: the container that holds the sandbox."""


def node_spec(config: CellConfig, node: NodeSpec, tools: Toolset) -> dict[str, Any]:
    """Composes the `config.json` of one node.

    Args:
        config: The cell's quotas.
        node: What is particular to this node.
        tools: What of the machine it sees.

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
    """Says the same in the words that gVisor understands.

    It takes no masks, marks a bind mount read-only by `ro` alone, and a limit on processes from outside kills its
    kernel instead of refusing a process, so that limit is set inside.
    """
    linux = {key: value for key, value in spec["linux"].items() if key not in ("maskedPaths", "readonlyPaths")}
    linux["resources"] = {key: value for key, value in linux["resources"].items() if key not in ("pids", "devices")}
    # Its kernel and its file servers share the memory limit with what runs inside.
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
    """The rule as gVisor can carry it out.

    It knows no other error than EPERM, and glibc starts no thread where clone3 gives that. A call for a tracer that is
    not there gives ENOSYS; none can be there, since ptrace is refused.
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
    """Refuses a specification unless its node gets a network of its own, or that of its cell's first node.

    A runtime takes a namespace that is not named for the machine's own, so nothing but the one right entry will do.

    Args:
        spec: What the runtime is about to be given.
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
        # The agent's alone are counted so, and ours are to have room within what a node may hold.
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
    # A hollow folder covers a part of what is bound above it, and what is bound below it fills it again.
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


@cache
def seccomp() -> dict[str, Any]:
    """The system call filter of every cell, from `data/seccomp.toml`."""
    rules = read_toml("redline.cell", "data/seccomp.toml")
    allow = "SCMP_ACT_ALLOW"
    calls: list[dict[str, Any]] = [
        {"names": rules["allow"], "action": allow},
        {"names": rules["absent"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {
            "names": ["clone"],
            "action": allow,
            "args": [{"index": 0, "value": rules["denied_clone_flags"], "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
        },
        {
            "names": ["socket"],
            "action": allow,
            "args": [
                {"index": 0, "value": rules["netlink_family"], "op": "SCMP_CMP_EQ"},
                {"index": 2, "value": 0, "op": "SCMP_CMP_EQ"},
            ],
        },
    ]
    calls += [
        {"names": ["socket"], "action": allow, "args": [{"index": 0, "value": family, "op": "SCMP_CMP_EQ"}]}
        for family in rules["socket_families"]
    ]
    calls += [
        {
            "names": [name],
            "action": allow,
            "args": [{"index": index, "value": rules["node_kind_mask"], "valueTwo": kind, "op": "SCMP_CMP_MASKED_EQ"}],
        }
        for name, index in (("mknod", 1), ("mknodat", 2))
        for kind in rules["node_kinds"]
    ]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ARCHITECTURES.get(platform.machine(), []),
        "syscalls": calls,
    }
