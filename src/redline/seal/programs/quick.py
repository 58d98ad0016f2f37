"""Inside half of the quick set of probes: tries what must fail and reports what happened. Run by `inside.py`.

Judges nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import struct

TYPE_CHECKING = False  # the name that type checkers know; importing typing would cost every start some milliseconds
if TYPE_CHECKING:
    from typing import Any

CLONE_NEWUSER = 0x10000000
SIGCHLD = 17
REFUSALS = (errno.EPERM, errno.ENOSYS, errno.EACCES)
RTM_GETROUTE, NLM_F_REQUEST_DUMP, NLMSG_DONE, NLMSG_ERROR = 26, 0x301, 3, 2
RTA_OIF, RTA_GATEWAY, RTA_MULTIPATH, RTA_NH_ID = 4, 5, 9, 30
NO_WAY = (0, 6, 7, 8)  # types of routes that lead nowhere: unspecified, blackhole, unreachable, prohibit
ROUTE_HEADER, NETLINK_HEADER = 12, 16
LOOPBACK_INDEX = 1
FAMILIES = {"AF_PACKET": 17, "AF_VSOCK": 40, "AF_ALG": 38, "AF_KEY": 15, "AF_NETLINK_AUDIT": (16, 9)}

libc = ctypes.CDLL(None, use_errno=True)


def status(_task: dict[str, Any]) -> dict[str, Any]:
    """Identity, capabilities and filters of this process."""
    with open("/proc/self/status") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    wanted = (
        "Uid",
        "Gid",
        "Groups",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "NSpid",
    )
    maps = {}
    for name in ("uid_map", "gid_map"):
        with open("/proc/self/" + name) as file:
            maps[name] = [[int(word) for word in line.split()] for line in file]
    return {**{name: lines.get(name, "").strip() for name in wanted}, **maps}


def setuid_programs(_task: dict[str, Any]) -> dict[str, Any]:
    """Runs what is marked setuid, to see that it raises nothing."""
    raised = []
    tried = 0
    for name in ("su", "mount", "passwd", "sudo", "newgrp"):
        path = "/usr/bin/" + name
        try:
            if not os.stat(path).st_mode & stat.S_ISUID:
                continue
        except OSError:
            continue
        tried += 1
        if os.stat(path).st_uid == 0:
            raised.append(path)  # root of the cell would own it: the files of the machine are nobody's here
    return {"tried": tried, "raised": raised}


def attempt(number: int, arguments: tuple[Any, ...]) -> int:
    """Makes one system call and names its outcome."""
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    return 0 if result >= 0 else ctypes.get_errno()


def refused_calls(task: dict[str, Any]) -> dict[str, Any]:
    """Attempts each system call that must be refused."""
    numbers = task["syscalls"]
    buffer = ctypes.create_string_buffer(256)
    arguments: dict[str, tuple[Any, ...]] = {
        "unshare": (CLONE_NEWUSER,),
        "ptrace": (0x4200, os.getpid(), 0, 0),  # options for a process that is not traced: ESRCH, if it were let in
        "process_vm_readv": (os.getpid(), buffer, 0, buffer, 0, 0),
        "process_vm_writev": (os.getpid(), buffer, 0, buffer, 0, 0),
        "shmget": (0, 4096, 0o1600),
        "userfaultfd": (1,),
        "kcmp": (os.getpid(), os.getpid(), 0, 0, 0),
    }
    outcomes = {}
    for name, number in numbers.items():
        if name == "clone":
            continue
        outcomes[name] = attempt(number, arguments.get(name, (0, 0, 0, 0, 0)))
    outcomes["clone(CLONE_NEWUSER)"] = clone_user_namespace(numbers["clone"])
    for name, kind in FAMILIES.items():
        family, protocol = kind if isinstance(kind, tuple) else (kind, 0)
        try:
            socket.socket(
                family, socket.SOCK_RAW if family == socket.AF_NETLINK else socket.SOCK_DGRAM, protocol
            ).close()
            outcomes[name] = 0
        except OSError as error:
            outcomes[name] = error.errno or errno.EIO
    return outcomes


def clone_user_namespace(number: int) -> int:
    """Tries to make a process in a user namespace of its own."""
    ctypes.set_errno(0)
    result = libc.syscall(number, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)
    if result == 0:
        os._exit(0)
    if result > 0:
        os.waitpid(result, 0)
        return 0
    return ctypes.get_errno()


def guarded_memory(task: dict[str, Any]) -> dict[str, Any]:
    """Tries to open the memory and descriptors of processes that guard themselves."""
    opened = []
    for pid in task["guarded"]:
        for name in ("mem", "fd", "root"):
            try:
                path = f"/proc/{pid}/{name}"
                if name == "fd":
                    os.listdir(path)
                elif name == "root":
                    os.listdir(path + "/")
                else:
                    os.close(os.open(path, os.O_RDWR))
                opened.append([name, pid])
            except OSError:
                continue
    return {"opened": opened, "tried": len(task["guarded"])}


def namespaces(_task: dict[str, Any]) -> dict[str, Any]:
    """Whether a user namespace can be made in any way that is left, and how many are allowed."""
    try:
        with open("/proc/sys/user/max_user_namespaces") as file:
            allowed = int(file.read())
    except FileNotFoundError:
        allowed = None  # a kernel of the runtime's own, which has no such limit
    return {"max_user_namespaces": allowed, "unshare": 0 if libc.unshare(CLONE_NEWUSER) == 0 else ctypes.get_errno()}


def processes(task: dict[str, Any]) -> dict[str, Any]:
    """What processes can be seen, and whether the harness can be signalled."""
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    try:
        os.kill(task["harness_pid"], 0)
        signalled = task["harness_pid"] not in pids
    except OSError:
        signalled = False
    with open("/proc/1/cmdline", "rb") as file:
        first = file.read().rstrip(b"\0").decode(errors="replace").split("\0")
    return {"pids": pids, "signalled": signalled, "first": first}


def files(task: dict[str, Any]) -> dict[str, Any]:
    """Which mounts and folders can be written, how large they are, and whether their quota bites."""
    mounts = {}
    with open("/proc/self/mountinfo", errors="replace") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            fields, kind = before.split(), after.split()
            tags = " ".join(fields[6:])
            shared = "with" if "shared:" in tags else "from" if "master:" in tags else ""
            mounts[fields[4]] = {
                "options": fields[5],
                "type": kind[0],
                "super": kind[2],
                "shared": shared,
                "covered": covered(fields[4]),
            }
    writable = sorted(folder for folder in folders_to_try(mounts, set(task["scratch"])) if os.access(folder, os.W_OK))
    made = []
    for folder in ("/", "/usr", "/usr/bin", "/etc", "/var", "/root", "/run", "/home", "/dev", task["tether"]):
        path = os.path.join(folder, task["nonce"])
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.unlink(path)
            made.append(folder)
        except OSError:
            continue
    return {
        "mounts": mounts,
        "writable": writable,
        "made": made,
        "quotas": {path: quota(path, size) for path, size in task["scratch"].items()},
    }


def covered(path: str) -> bool:
    """Whether a mount point lies below another mount that hides it, so that nothing leads there."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def folders_to_try(mounts: dict[str, Any], scratch: set[str]) -> set[str]:
    """Every mount point and every folder near the root; what lies in a scratch folder is the agent's own."""
    found = {path for path in mounts if not path.startswith("/proc")}
    for name in os.listdir("/"):
        path = "/" + name
        if name == "proc" or os.path.islink(path) or not os.path.isdir(path):
            continue
        found.add(path)
        if path in scratch:
            continue  # thousands of folders there would be more than the answer may hold
        try:
            found.update(entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False))
        except OSError:
            continue
    return {path for path in found if os.path.isdir(path)}


def quota(path: str, declared: int) -> dict[str, Any]:
    """Size of a file system in bytes, and whether a file of one page more is refused.

    A larger one than was declared is not tried: to fill it could be the end of the cell, and its size says enough.
    """
    info = os.statvfs(path)
    size = info.f_blocks * info.f_frsize
    if size > declared:
        return {"bytes": size, "bites": False}
    name = os.path.join(path, "." + os.urandom(8).hex())
    try:
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return {"bytes": size, "bites": True}  # full already, so it has bitten
        if error.errno in (errno.EACCES, errno.EPERM) and os.stat(path).st_uid == os.getuid():
            # Its owner, who is the agent, has taken the right to write there from itself: the size says enough.
            return {"bytes": size, "bites": None}
        raise
    try:
        os.posix_fallocate(fd, 0, size + info.f_frsize)
        bites = False
    except OSError as error:
        bites = error.errno in (errno.ENOSPC, errno.EFBIG, errno.ENOMEM)
    finally:
        os.close(fd)
        os.unlink(name)
    return {"bytes": size, "bites": bites}


def unreachable(task: dict[str, Any]) -> dict[str, Any]:
    """Which of the harness's places can be seen from here."""
    scratch = {os.stat(path).st_dev for path in task["scratch"]}
    return {"seen": [path for path in task["hidden"] if is_seen(path, scratch)]}


def is_seen(path: str, scratch: set[int]) -> bool:
    """Whether something is at a path that the agent cannot have put there itself, as it can in a scratch folder."""
    try:
        return os.lstat(path).st_dev not in scratch
    except OSError:
        return False


def network(_task: dict[str, Any]) -> dict[str, Any]:
    """Interfaces and routes: by /proc, which shows one table of routes, and by the kernel's own list of all tables."""
    with open("/proc/net/dev") as file:
        interfaces = sorted(line.split(":")[0].strip() for line in file if ":" in line)
    with open("/proc/net/route") as file:
        routes = [line.split()[0] for line in file.read().splitlines()[1:]]
    try:
        with open("/proc/net/ipv6_route") as file:
            routes += [line.split()[-1] for line in file]
    except FileNotFoundError:
        pass  # a kernel without IPv6 has no such routes
    return {
        "interfaces": interfaces,
        "routes": sorted(set(routes)),
        "ways": ways(socket.AF_INET) + ways(socket.AF_INET6),
    }


def ways(family: int) -> list[str]:
    """Routes of any table that lead anywhere but to the loopback interface."""
    found: list[str] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as channel:
        channel.settimeout(2.0)
        request = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
        channel.send(
            struct.pack("=IHHII", NETLINK_HEADER + len(request), RTM_GETROUTE, NLM_F_REQUEST_DUMP, 1, 0) + request
        )
        while True:
            data = channel.recv(1 << 17)
            while len(data) >= NETLINK_HEADER:
                length, kind = struct.unpack_from("=IH", data)
                if kind == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", data, NETLINK_HEADER)[0]
                    if number in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
                        return found
                    raise OSError(number, "the kernel lists no routes")
                if kind == NLMSG_DONE:
                    return found
                found += way(data[NETLINK_HEADER:length])
                data = data[(length + 3) & ~3 :]


def way(route: bytes) -> list[str]:
    """What is to be said of a route that does not lead to the loopback interface alone."""
    if route[7] in NO_WAY:
        return []
    parts, at = {}, ROUTE_HEADER
    while at + 4 <= len(route):
        length, kind = struct.unpack_from("=HH", route, at)
        parts[kind] = route[at + 4 : at + length]
        at += max(4, (length + 3) & ~3)
    link = struct.unpack("=I", parts[RTA_OIF])[0] if RTA_OIF in parts else 0
    if link == LOOPBACK_INDEX and not {RTA_GATEWAY, RTA_MULTIPATH, RTA_NH_ID} & set(parts):
        return []
    return [f"table {route[4]} to interface {link}"]


def unix_sockets(task: dict[str, Any]) -> dict[str, Any]:
    """Sockets in the file system that were not made inside, and abstract ones."""
    found = []
    inside = set(task["scratch"])
    places = [
        name
        for name in os.listdir("/")
        if name not in ("proc", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
    ]
    for top in places:
        for folder, names, entries in os.walk("/" + top):
            if folder in inside:
                names.clear()
                continue
            for name in entries:
                path = os.path.join(folder, name)
                try:
                    if stat.S_ISSOCK(os.lstat(path).st_mode):
                        found.append(path)
                except OSError:
                    continue
    # Names are any bytes of the agent's choice, and end no line but at a line feed.
    with open("/proc/net/unix", errors="replace", newline="\n") as file:
        abstract = sorted({word for line in file for word in line.split()[-1:] if word.startswith("@")})
    return {"paths": sorted(found), "abstract": abstract}


GROUPS = (
    status,
    setuid_programs,
    refused_calls,
    guarded_memory,
    namespaces,
    processes,
    files,
    unreachable,
    network,
    unix_sockets,
)
