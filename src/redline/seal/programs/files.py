"""Inside half of the full set: files, devices and interfaces of the kernel. Executed by `inside.py`."""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import os
import stat
import struct
import subprocess
import sys

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAX_READ = 1 << 16
IMPORT_SECONDS = 10.0
NULL_DEVICE = os.makedev(1, 3)
SYSTEM = ("proc", "sys", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")

libc = ctypes.CDLL(None, use_errno=True)


def candidate_paths(path: str) -> Iterator[str]:
    """Yield the paths by which a file outside the cell might be reached from inside."""
    yield path
    yield "../" * 24 + path.lstrip("/")
    for pid in [*filter(str.isdigit, os.listdir("/proc")), "self", "thread-self"]:
        yield f"/proc/{pid}/root{path}"
        yield f"/proc/{pid}/cwd/" + "../" * 24 + path.lstrip("/")
    for folder in ("/run/accelerator", "/usr", "/dev/pts", "/home/agent"):
        yield folder + "/" + "../" * 24 + path.lstrip("/")
    for fd in os.listdir("/proc/self/fd"):
        yield f"/proc/self/fd/{fd}/" + "../" * 24 + path.lstrip("/")
    link = "/tmp/." + os.urandom(8).hex()
    os.symlink(path, link)
    try:
        yield link
    finally:
        os.unlink(link)


def find_by_name(name: str) -> Iterator[str]:
    """Yield every path with that name outside `SYSTEM`."""
    for top in os.listdir("/"):
        if top in SYSTEM:
            continue
        for folder, names, entries in os.walk("/" + top):
            if name in names or name in entries:
                yield os.path.join(folder, name)


def canary(task: dict[str, Any]) -> dict[str, Any]:
    """Try to read the canary: by every path, by its name, and by its file handle."""
    target = task["canary"]
    read, tried = [], 0
    inside = [os.path.join(path, os.path.basename(target["path"])) for path in find_by_name(target["name"])]
    for path in [*candidate_paths(target["path"]), *inside]:
        tried += 1
        try:
            with open(path, "rb") as file:
                read.append([path, hashlib.sha256(file.read(MAX_READ)).hexdigest()])
        except OSError:
            continue
    for folder in ("/", "/run/accelerator", "/usr"):
        tried += 1
        opened = open_by_handle(target["handle"], target["handle_type"], folder)
        if opened is not None:
            read.append([f"its file handle in {folder}", opened])
    return {"read": read, "tried": tried}


def open_by_handle(handle: str, kind: int, folder: str) -> str | None:
    """Open a file by its handle. Return the hash of its content, None if it cannot be opened."""
    if not handle:
        return None
    data = bytes.fromhex(handle)
    buffer = ctypes.create_string_buffer(struct.pack("=Ii", len(data), kind) + data)
    try:
        mount = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return None
    try:
        fd = libc.open_by_handle_at(mount, buffer, os.O_RDONLY)
        if fd < 0:
            return None
        with open(fd, "rb") as file:
            return hashlib.sha256(file.read(MAX_READ)).hexdigest()
    finally:
        os.close(mount)


def change_outside(task: dict[str, Any]) -> dict[str, Any]:
    """Try to add, change and move files in the watched folders of the harness."""
    done, tried = [], 0
    for folder in task["watched_folders"]:
        for path in [*candidate_paths(folder), *find_by_name(os.path.basename(folder))]:
            tried += 1
            done += [f"{action} through {path}" for action in change(path)]
    return {"done": done, "tried": tried}


def change(folder: str) -> Iterator[str]:
    """Try to add, change and move a file in a folder. Yield what succeeded."""
    try:
        os.close(os.open(os.path.join(folder, "added"), os.O_CREAT | os.O_WRONLY))
        yield "added a file"
    except OSError:
        pass
    try:
        with open(os.path.join(folder, "kept"), "ab") as file:
            file.write(b"changed")
        yield "changed a file"
    except OSError:
        pass
    try:
        os.rename(os.path.join(folder, "moved"), os.path.join(folder, "gone"))
        yield "moved a file"
    except OSError:
        pass


def writable_anywhere(task: dict[str, Any]) -> dict[str, Any]:
    """Return the writable folders and files, down to some depth, outside the declared folders."""
    declared = set(task["scratch"])
    found = []
    for folder, names, entries in os.walk("/"):
        if folder in declared:
            names.clear()
            continue
        if folder == "/":
            names[:] = [name for name in names if name not in ("proc", "sys", "dev")]
        deep = folder.count("/") >= (3 if folder.startswith("/usr") else 6)
        if deep:
            names.clear()
        found += [
            path for path in [folder, *(os.path.join(folder, name) for name in entries)] if os.access(path, os.W_OK)
        ]
    return {"found": sorted(path for path in found if not os.path.islink(path))}


def interfaces_of_kernel(task: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the kernel that are writable, and its memory, log and other secrets that are readable."""
    writable = [path for path in settings(task["kernel"]) if can_open(path, os.O_WRONLY)]
    readable = [path for pattern in task["kernel"]["secret"] for path in glob.glob(pattern) if has_content(path)]
    return {"writable": sorted(writable), "readable": sorted(readable)}


def settings(kernel: dict[str, Any]) -> Iterator[str]:
    """Yield the named settings of the kernel, and all files below the named folders."""
    for pattern in kernel["settings"]:
        yield from glob.glob(pattern)
    for tree in kernel["trees"]:
        for folder, _, names in os.walk(tree):
            for name in names:
                yield os.path.join(folder, name)


def can_open(path: str, flags: int) -> bool:
    """Return whether a file can be opened. One that is masked by the null device does not count."""
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    info = os.fstat(fd)
    os.close(fd)
    return not (stat.S_ISCHR(info.st_mode) and info.st_rdev == NULL_DEVICE)


def has_content(path: str) -> bool:
    """Return whether reading a file returns any bytes."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return bool(os.read(fd, 64))
    except OSError:
        return False
    finally:
        os.close(fd)


def devices(_task: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of /dev, device nodes anywhere, and the kinds of device node that can be created."""
    in_dev, nodes = [], []
    skipped = [path for path in mounts_without_devices() if path not in ("/", "/dev")]
    for top in os.listdir("/"):
        if top in ("proc", "sys") or "/" + top in skipped or os.path.islink("/" + top):
            continue
        for folder, names, entries in os.walk("/" + top):
            if folder in ("/dev/pts", "/dev/shm"):
                names.clear()
                continue
            for name in [*names, *entries]:
                path = os.path.join(folder, name)
                if top == "dev":
                    in_dev.append(path)
                mode = os.lstat(path).st_mode
                if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                    nodes.append([path, "block" if stat.S_ISBLK(mode) else "character"])
    made = []
    for name, kind in (("character", stat.S_IFCHR), ("block", stat.S_IFBLK)):
        path = "/tmp/." + os.urandom(8).hex()
        try:
            os.mknod(path, kind | 0o600, os.makedev(1, 3))
            os.unlink(path)
            made.append(name)
        except OSError:
            continue
    return {"dev": sorted(in_dev), "nodes": nodes, "made": made}


def mounts_without_devices() -> list[str]:
    """Return the mount points below which no device node opens a device, and which need not be searched.

    Either the mount is `nodev`, or it is served by gVisor's file server, which opens no device of the host.
    """
    found = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            path, options = before.split()[4:6]
            if "nodev" in options.split(",") or after.split()[0] == "9p":
                found.append(path)
    return found


def mount_points(task: dict[str, Any]) -> dict[str, Any]:
    """Return device and inode of each mount point, and the forbidden paths that exist."""
    found = {}
    for path in task["bound"]:
        try:
            info = os.stat(path)
            found[path] = [info.st_dev, info.st_ino]
        except OSError as error:
            found[path] = [0, -(error.errno or errno.EIO)]
    return {"identities": found, "foreign": [path for path in task["forbidden_paths"] if os.path.lexists(path)]}


def imports(_task: dict[str, Any]) -> dict[str, Any]:
    """Return the packages of the harness that a Python with all its import paths finds."""
    program = "import importlib.util as u; print([n for n in ('redline', 'inspect_ai') if u.find_spec(n)])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=IMPORT_SECONDS,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return {"found": done.stdout.strip()}


def hooks(task: dict[str, Any]) -> dict[str, Any]:
    """Return the paths from which programs start automatically and that are writable or can be created."""
    found = []
    for path in task["hooks"]:
        existing = path
        while not os.path.lexists(existing):
            existing = os.path.dirname(existing)
        if os.access(existing, os.W_OK):
            found.append(path)
    return {"writable": found, "tried": len(task["hooks"])}


def package_sources(task: dict[str, Any]) -> dict[str, Any]:
    """Return the settings, caches and variables of package tools and model hubs that exist."""
    existing = []
    for pattern in task["packages"]["settings"]:
        existing += [path for path in glob.glob(os.path.expanduser(pattern)) if names_a_source(path)]
    for pattern in task["packages"]["stores"]:
        folders = filter(os.path.isdir, glob.glob(os.path.expanduser(pattern)))
        existing += [path for path in folders if os.listdir(path)]
    variables = [name for name in task["packages"]["variables"] if name in os.environ]
    return {"files": sorted(existing), "variables": variables}


def names_a_source(path: str) -> bool:
    """Return whether a file, or a file of a folder, contains an address or folder of a source."""
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_READ)
    except IsADirectoryError:
        return any(names_a_source(os.path.join(path, name)) for name in os.listdir(path))
    except OSError:
        return False
    return any(word in text for word in (b"://", b"file:", b"index-url", b"registry"))


GROUPS = (
    canary,
    change_outside,
    writable_anywhere,
    interfaces_of_kernel,
    devices,
    mount_points,
    imports,
    hooks,
    package_sources,
)
