"""Functions that the programs in and around a cell share; `load_program` puts them in front of each program's text.

Standard library only, for Python 3.9 and later.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct

SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_IN_ROOT = 0x02, 0x04, 0x10
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_READ, PR_CAPBSET_DROP = 1, 4, 23, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
LINUX_CAPABILITY_VERSION_3 = 0x20080522
STAT_BYTES = 4096
PF_EXITING = 0x4

NO_FLOCK = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of file systems without `flock`: Lustre without its mount option, NFS without a lock service, some of FUSE."""

libc = ctypes.CDLL(None, use_errno=True)


def stat_fields(pid: int | str) -> list[bytes]:
    """Return the fields of /proc/PID/stat after the process name, from its state on; none if there is no process.

    The name may contain any byte, so the fields start after the last closing parenthesis.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(fd, STAT_BYTES).rpartition(b")")[2].split()
    except OSError:
        return []
    finally:
        os.close(fd)


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if there is no such process."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else None


def is_alive(fields: list[bytes]) -> bool:
    """Return whether the fields of a process show a live one: not a zombie, or a zombie with live threads."""
    return bool(fields) and (fields[0] not in (b"Z", b"X") or int(fields[17]) > 1)


def is_running(pid: int, start: int | None) -> bool:
    """Return whether the process with this pid and start time exists and is not a zombie."""
    fields = stat_fields(pid)
    return is_alive(fields) and int(fields[19]) == start


def is_ending(pid: int) -> bool:
    """Return whether a process has ended or is ending.

    While the kernel frees the memory of a large process, which takes a second, its children may have another parent
    already, and cgroup v1 names the root as its cgroup.
    """
    fields = stat_fields(pid)
    return not fields or bool(int(fields[6]) & PF_EXITING)


def kill_process(pid: int, start: int | None) -> None:
    """Kill the process with this pid and start time, never a later one with the same pid."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if start_time(pid) == start:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(fd)


def openat2_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a path below a folder without following any link and without leaving the folder."""
    extra = 0 if flags & os.O_PATH else os.O_NONBLOCK
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    how = struct.pack("QQQ", flags | extra | os.O_CLOEXEC, 0 if flags & os.O_PATH else mode, resolve)
    fd: int = libc.syscall(SYS_OPENAT2, root_fd, os.fsencode(path), how, len(how))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return fd


def shed_capabilities(kept: int = 0) -> None:
    """Drop every capability but a set of bits, and leave none to inherit for the programs that this one starts."""
    capability = 0
    while libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        capability += 1
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)  # effective, permitted, inheritable; then the high words
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def lock_file(fd: int, how: int) -> None:
    """Lock an open, writable file with `flock`, or with a POSIX record lock where the file system has no `flock`.

    Raises:
        OSError: Another process has locked the file, or it cannot be locked.
    """
    try:
        fcntl.flock(fd, how)
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        fcntl.lockf(fd, how)
