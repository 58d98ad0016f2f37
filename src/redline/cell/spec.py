"""What every node has in common, whatever runtime makes it: users, folders, programs and the system call filter."""

import platform
from functools import cache
from typing import Any

from redline._base import read_toml

AGENT_ID = 1000
HOME = "/home/agent"
TETHER_FOLDER = "/run/accelerator"
TETHER_MIB = 1
INIT_PROGRAM = "/run/init"
ATTENDANT_PROGRAM = "/run/attendant"
HOSTNAMES = {"default": "node1", "target": "node2"}

INODES_PER_MIB = 64
"""Bound on small files, which cost kernel memory beyond their size: 480,000 empty files took 440 MiB."""

INIT_CAPABILITIES = ["CAP_KILL", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID"]
"""Capabilities to start and stop commands as another user. The first process drops them for all that it starts."""

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


@cache
def seccomp() -> dict[str, Any]:
    """Return the system call filter of every cell, from `data/seccomp.toml`."""
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
