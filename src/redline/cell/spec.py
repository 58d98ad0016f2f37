"""The OCI specification of one host of a cell: a pure function of what it is made of."""

import platform
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from redline.cell.config import CellConfig
from redline.cell.machine import Toolset

OCI_VERSION = "1.0.2"
AGENT_ID = 1000
HOME = "/home/agent"
TETHER_FOLDER = "/run/accelerator"
INIT_PROGRAM = "/run/init"
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
class HostSpec:
    """What one host is made of, beside the cell's configuration."""

    hostname: str
    root: Path
    """The skeleton that is the host's root file system."""

    init: Path
    """The program of the first process."""

    tether: Path
    """The folder in which the outside binds the tether's socket."""

    ids: IdMaps
    cgroup: str | None
    """Path of the cgroup, None where this user may make none."""

    shares: int | None = None
    """Pid of the first host's init whose user and network namespaces are joined, None for the first host."""


def host_spec(config: CellConfig, host: HostSpec, tools: Toolset) -> dict[str, Any]:
    """Composes the `config.json` of one host.

    Args:
        config: The cell's quotas.
        host: What is particular to this host.
        tools: What of the machine it sees.

    Returns:
        The specification, ready to be written as JSON.
    """
    linux: dict[str, Any] = {
        "namespaces": _namespaces(host.shares),
        "uidMappings": [piece.oci() for piece in host.ids.users],
        "gidMappings": [piece.oci() for piece in host.ids.groups],
        "maskedPaths": [*MASKED_PROC, *tools.masked],
        "readonlyPaths": list(READONLY_PROC),
        "seccomp": seccomp(),
        "rootfsPropagation": "rprivate",
    }
    if host.cgroup is not None:
        linux["cgroupsPath"] = host.cgroup
        linux["resources"] = _resources(config)
    return {
        "ociVersion": OCI_VERSION,
        "hostname": host.hostname,
        "root": {"path": str(host.root), "readonly": True},
        "process": _init_process(config, tools, rootless=host.cgroup is None),
        "mounts": _mounts(config, host, tools),
        "linux": linux,
    }


def _namespaces(shares: int | None) -> list[dict[str, str]]:
    own = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")]
    if shares is None:
        return [*own, {"type": "network"}, {"type": "user"}]
    joined = {"network": "net", "user": "user"}
    return [*own, *({"type": kind, "path": f"/proc/{shares}/ns/{file}"} for kind, file in joined.items())]


def _init_process(config: CellConfig, tools: Toolset, *, rootless: bool) -> dict[str, Any]:
    limits = {"RLIMIT_NOFILE": config.open_files, "RLIMIT_CORE": 0}
    if rootless:
        limits["RLIMIT_NPROC"] = config.pids
    process: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "cwd": "/",
        "args": [tools.interpreter, "-I", "-S", INIT_PROGRAM],
        "env": [f"PATH={tools.path}", "LANG=C.UTF-8"],
        "noNewPrivileges": True,
        "capabilities": {
            "bounding": INIT_CAPABILITIES,
            "effective": INIT_CAPABILITIES,
            "permitted": INIT_CAPABILITIES,
            "inheritable": [],
            "ambient": [],
        },
        "rlimits": [{"type": kind, "hard": value, "soft": value} for kind, value in limits.items()],
    }
    if not rootless:
        process["oomScoreAdj"] = 0
    return process


def _mounts(config: CellConfig, host: HostSpec, tools: Toolset) -> list[dict[str, Any]]:
    readonly = ["rbind", "rro", "rnosuid", "rnodev", "rprivate"]
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
        _bind(str(host.init), INIT_PROGRAM, ["bind", "ro", "nosuid", "nodev"]),
        _bind(str(host.tether), TETHER_FOLDER, ["bind", "ro", "nosuid", "nodev", "noexec"]),
    ]
    return mounts


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
    rules = tomllib.loads(files("redline.cell").joinpath("data/seccomp.toml").read_text())
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
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ARCHITECTURES.get(platform.machine(), []),
        "syscalls": calls,
    }
