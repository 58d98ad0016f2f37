"""Inside half of the quick set: try operations that must fail, and report their results. Executed by `inside.py`.

It makes no judgement.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import struct

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from typing import Any

CLONE_NEWUSER = 0x10000000
SIGCHLD = 17
REFUSALS = (errno.EPERM, errno.ENOSYS, errno.EACCES)
RTM_GETROUTE, NLM_F_REQUEST_DUMP, NLMSG_DONE, NLMSG_ERROR = 26, 0x301, 3, 2
RTA_OIF, RTA_GATEWAY, RTA_MULTIPATH, RTA_NH_ID = 4, 5, 9, 30
LEADS_NOWHERE = (0, 6, 7, 8)  # types of routes: unspecified, blackhole, unreachable, prohibit
ROUTE_HEADER, NETLINK_HEADER = 12, 16
LOOPBACK_INDEX = 1
FAMILIES = {"AF_PACKET": 17, "AF_VSOCK": 40, "AF_ALG": 38, "AF_KEY": 15, "AF_NETLINK_AUDIT": (16, 9)}

libc = ctypes.CDLL(None, use_errno=True)


def status(_task: dict[str, Any]) -> dict[str, Any]:
    """Return identity, capabilities and filters of this process."""
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
    """Return the setuid programs that would run as the cell's root."""
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
            raised.append(path)  # owned by the cell's root; the host's files have no mapped owner in a cell
    return {"tried": tried, "raised": raised}


def attempt(number: int, arguments: tuple[Any, ...]) -> int:
    """Make one system call and return its error, 0 if it succeeded."""
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    return 0 if result >= 0 else ctypes.get_errno()


def refused_calls(task: dict[str, Any]) -> dict[str, Any]:
    """Try each system call that must be refused, and return its error."""
    numbers = task["syscalls"]
    buffer = ctypes.create_string_buffer(256)
    arguments: dict[str, tuple[Any, ...]] = {
        "unshare": (CLONE_NEWUSER,),
        "ptrace": (0x4200, os.getpid(), 0, 0),  # sets options of an untraced process: ESRCH if the call is allowed
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
    """Try to clone a process into a new user namespace; return the error."""
    ctypes.set_errno(0)
    result = libc.syscall(number, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)
    if result == 0:
        os._exit(0)
    if result > 0:
        os.waitpid(result, 0)
        return 0
    return ctypes.get_errno()


def protected_processes(task: dict[str, Any]) -> dict[str, Any]:
    """Try to open memory, descriptors and root of processes that are not dumpable."""
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
    """Return the limit of user namespaces, and the error of an attempt to create one by `unshare`."""
    try:
        with open("/proc/sys/user/max_user_namespaces") as file:
            allowed = int(file.read())
    except FileNotFoundError:
        allowed = None  # a separate kernel such as gVisor's, which has no such limit
    return {"max_user_namespaces": allowed, "unshare": 0 if libc.unshare(CLONE_NEWUSER) == 0 else ctypes.get_errno()}


def processes(task: dict[str, Any]) -> dict[str, Any]:
    """Return the visible processes, and whether the harness can be signalled."""
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
    """Return the mounts, the writable folders, and the size and quota of the scratch folders."""
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
    """Return whether another mount hides a mount point, so that it is unreachable."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def folders_to_try(mounts: dict[str, Any], scratch: set[str]) -> set[str]:
    """Return every mount point and every folder near the root, without the content of scratch folders."""
    found = {path for path in mounts if not path.startswith("/proc")}
    for name in os.listdir("/"):
        path = "/" + name
        if name == "proc" or os.path.islink(path) or not os.path.isdir(path):
            continue
        found.add(path)
        if path in scratch:
            continue  # the agent can create thousands of folders there, too many for the answer
        try:
            found.update(entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False))
        except OSError:
            continue
    return {path for path in found if os.path.isdir(path)}


def quota(path: str, declared: int) -> dict[str, Any]:
    """Return the size of a file system in bytes, and whether a file that is one page larger is refused.

    A file system that is larger than declared is not filled, since this could kill the cell. Its size fails the probe.
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
            return {"bytes": size, "bites": True}  # already full
        if error.errno in (errno.EACCES, errno.EPERM) and os.stat(path).st_uid == os.getuid():
            # The agent, which owns the folder, has removed its own write permission: only the size is checked.
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
    """Return the harness's paths that exist in the cell."""
    scratch = {os.stat(path).st_dev for path in task["scratch"]}
    return {"visible": [path for path in task["hidden"] if exists_outside_scratch(path, scratch)]}


def exists_outside_scratch(path: str, scratch: set[int]) -> bool:
    """Return whether a file exists that the agent cannot have created itself, as it can in a scratch folder."""
    try:
        return os.lstat(path).st_dev not in scratch
    except OSError:
        return False


def network(_task: dict[str, Any]) -> dict[str, Any]:
    """Return interfaces and routes: from /proc, which shows one routing table, and from netlink, which lists all."""
    with open("/proc/net/dev") as file:
        interfaces = sorted(line.split(":")[0].strip() for line in file if ":" in line)
    with open("/proc/net/route") as file:
        routes = [line.split()[0] for line in file.read().splitlines()[1:]]
    try:
        with open("/proc/net/ipv6_route") as file:
            routes += [line.split()[-1] for line in file]
    except FileNotFoundError:
        pass  # a kernel without IPv6
    return {
        "interfaces": interfaces,
        "routes": sorted(set(routes)),
        "outward_routes": outward_routes(socket.AF_INET) + outward_routes(socket.AF_INET6),
    }


def outward_routes(family: int) -> list[str]:
    """Return the routes of every table that lead anywhere but to the loopback interface."""
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
                    raise OSError(number, "the kernel did not list the routes")
                if kind == NLMSG_DONE:
                    return found
                found += outward_route(data[NETLINK_HEADER:length])
                data = data[(length + 3) & ~3 :]


def outward_route(route: bytes) -> list[str]:
    """Return the description of a route, empty if it leads nowhere or to the loopback interface alone."""
    if route[7] in LEADS_NOWHERE:
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
    """Return the sockets in the file system outside scratch folders, and the abstract sockets."""
    found = []
    scratch = set(task["scratch"])
    tops = [
        name
        for name in os.listdir("/")
        if name not in ("proc", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
    ]
    for top in tops:
        for folder, names, entries in os.walk("/" + top):
            if folder in scratch:
                names.clear()
                continue
            for name in entries:
                path = os.path.join(folder, name)
                try:
                    if stat.S_ISSOCK(os.lstat(path).st_mode):
                        found.append(path)
                except OSError:
                    continue
    # Names can contain any bytes of the agent's choice; only a line feed ends a line.
    with open("/proc/net/unix", errors="replace", newline="\n") as file:
        abstract = sorted({word for line in file for word in line.split()[-1:] if word.startswith("@")})
    return {"paths": sorted(found), "abstract": abstract}


GROUPS = (
    status,
    setuid_programs,
    refused_calls,
    protected_processes,
    namespaces,
    processes,
    files,
    unreachable,
    network,
    unix_sockets,
)
