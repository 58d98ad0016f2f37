"""Failures of runtimes, as they print them, in plain words."""

import asyncio
import re
import time
from typing import Any, cast

import pytest

from redline.cell import open as opening
from redline.cell.config import CellConfig
from redline.cell.errors import CellError
from redline.cell.known_errors import MAX_LINE, find_known_error, in_plain_words, known_errors
from redline.cell.runtime import first_error_line

INIT = "runc run failed: unable to start container process: error during container init: "
MESSAGES = {
    "hidden processes": [
        "runc run failed: unable to start container process: error getting pipe fds for pid 7009: "
        "readlink /proc/7009/fd/0: no such file or directory"
    ],
    "keyring quota": [
        INIT + "unable to join session keyring: unable to create session key: disk quota exceeded",
        "create keyring `c-default`: Disk quota exceeded",
    ],
    "keyring refused": ["create keyring `c-default`: Operation not permitted"],
    "SELinux": [
        INIT + "write /proc/self/attr/keycreate: permission denied",
        INIT + "unable to apply SELinux label: permission denied",
        "type=AVC msg=audit(1695718173.815:89): avc:  denied  { mounton } for pid=769",
    ],
    "AppArmor profile": [
        INIT
        + "unable to apply apparmor profile: apparmor failed to apply profile: write /proc/self/attr/apparmor/exec: "
        "no such file or directory",
        "Error response from daemon: AppArmor enabled on system but the docker-default profile could not be loaded",
    ],
    "newuidmap not installed": [
        'exec: "newuidmap": executable file not found in $PATH',
        "newuidmap: command not found",
        'time="2026-11-30T07:32:38Z" level=fatal msg="nsexec-0[29]: mapping tool not present: Operation not permitted"',
    ],
    "subordinate ids": ["newuidmap: uid range [0-1) -> [1000-1001) not allowed"],
    "newuidmap without rights": [
        "newuidmap: write to uid_map failed: Operation not permitted",
        "nsexec-0[4711]: failed to use newuid map on 4713",
        "cannot setup namespace using newuidmap: exit status 1",
    ],
    "user namespaces restricted": [
        "nsexec-0[4711]: failed to update /proc/4713/uid_map: Operation not permitted",
        "writing file `/proc/4713/setgroups`: Permission denied",
    ],
    "user namespaces disabled": [
        "nsexec-1[4713]: failed to unshare user namespace: No space left on device",
        "nsexec-1[4713]: failed to unshare user namespace: Operation not permitted",
        "creating container: fork/exec /proc/self/exe: no space left on device",
    ],
    "locked memory": ["setrlimit (RLIM_MEMLOCK): Operation not permitted"],
    "seccomp": [
        INIT + "unable to init seccomp: error loading seccomp filter into kernel: invalid argument",
        INIT + "seccomp: config provided but seccomp not supported",
        "Error response from daemon: seccomp is not enabled in your kernel, cannot run a custom seccomp profile",
    ],
    "mount option": [
        INIT + 'error mounting "/usr" to rootfs at "/usr": mount_setattr "/usr": function not implemented',
        "mount_setattr `/usr`: Function not implemented",
    ],
    "no cgroup": [
        "no cgroup mount found in mountinfo",
        "OCI runtime create failed: mountpoint for devices not found: unknown",
        "Error response from daemon: cgroups: cgroup mountpoint does not exist: unknown",
        "invalid file system type on `/sys/fs/cgroup`",
    ],
    "hybrid cgroups": ["cgroups in hybrid mode not supported, drop all controllers from cgroup v2"],
    "cgroup read-only": [
        "runc run failed: unable to apply cgroup configuration: mkdir /sys/fs/cgroup/redline: read-only file system",
        "create directory `/sys/fs/cgroup/redline`: Read-only file system",
        "cannot set up cgroup for root: mkdir /sys/fs/cgroup/memory/redline: read-only file system",
    ],
    "controller missing": [
        "the requested cgroup controller `memory` is not available",
        "runc run failed: openat2 /sys/fs/cgroup/redline/c/memory.max: no such file or directory",
        "cannot set pids limit: container could not join or create cgroup",
        "Error response from daemon: NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler",
    ],
    "controllers busy": [
        "write /sys/fs/cgroup/redline/cgroup.subtree_control: device or resource busy",
        "writing file `/sys/fs/cgroup/user.slice/cgroup.procs`: Permission denied",
    ],
    "cgroup permission": [
        "runc run failed: unable to apply cgroup configuration: mkdir /sys/fs/cgroup/redline: permission denied",
        'rootless container requires cgroup access: "cgroup" : operation not permitted',
    ],
    "docker socket refused": [
        "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get ..."
    ],
    "docker engine off": [
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct",
    ],
    "docker compose missing": ["docker: 'compose' is not a docker command.", "docker: unknown command: docker compose"],
    "no SYS_ADMIN": [
        INIT + 'error mounting "proc" to rootfs at "/proc": mount proc:/proc (via /proc/self/fd/7), flags: 0xe: '
        "operation not permitted",
        "nsexec-1[4713]: failed to unshare remaining namespaces (except cgroupns): Operation not permitted",
        "mount `proc` to `proc`: Operation not permitted",
        "creating container: fork/exec /proc/self/exe: operation not permitted",
    ],
}


@pytest.mark.parametrize(
    ("name", "message"), [(name, message) for name, messages in MESSAGES.items() for message in messages]
)
@pytest.mark.host("no newuidmap", how="read")
@pytest.mark.host("user namespaces restricted by AppArmor, as on Ubuntu 24.04", how="read")
@pytest.mark.host("SELinux that denies the runtime an action", how="read")
@pytest.mark.host("a cgroup controller that is not delegated", how="read")
@pytest.mark.host("nested cgroup v2 with a busy subtree_control", how="read")
@pytest.mark.host("a kernel or runtime without seccomp", how="read")
@pytest.mark.host("a container that refuses kernel keyrings", how="read")
def test_a_known_failure_is_explained_and_the_own_line_is_kept(name: str, message: str) -> None:
    found = find_known_error(f'time="2026-11-30T07:00:00Z" level=warning msg="cells"\n{message}\n')
    assert found is not None and found[0].name == name
    said = in_plain_words(message)
    assert said.startswith(found[0].wrong) and found[0].fix in said
    assert "\n" not in said and " ".join(message.split())[-60:] in said


def test_each_known_failure_has_a_message_and_its_texts_are_clauses() -> None:
    assert {known.name for known in known_errors()} == set(MESSAGES)
    for known in known_errors():
        assert not known.wrong.endswith(".") and not known.fix.endswith("."), known.name


@pytest.mark.parametrize(
    "message",
    [
        "",
        "runc: no such luck",
        "RuntimeError: the runtime ended with code 139",
        "cells cannot be made: nothing can be written to /run/pods-0: Read-only file system",
        "the warden is gone, and its cells with it",
        "a cell is not made without a closed network of its own",
    ],
)
def test_an_unknown_failure_is_left_as_it_is(message: str) -> None:
    assert in_plain_words(message) == message


def test_a_long_line_is_cut_around_what_was_recognised() -> None:
    message = "x" * 1000 + " no cgroup mount found in mountinfo " + "y" * 1000
    said = in_plain_words(message)
    assert "no cgroup mount found" in said
    assert len(said.rpartition("Reported as: ")[2]) <= MAX_LINE


def test_control_characters_are_not_shown() -> None:
    assert "\033" not in in_plain_words("\033[31mno cgroup mount found\033[0m")


def test_hostile_output_takes_no_time() -> None:
    parts = ("cgroup ", "mount", "newuidmap ", "seccomp ", "selinux ", "/sys/fs/cgroup", "avc:", "keyring", "\n", " ")
    start = time.monotonic()
    for part in parts:
        in_plain_words(part * 4000)
    assert time.monotonic() - start < 5.0


def test_the_error_of_a_cell_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses:
        traits = type("Traits", (), {"name": "runc"})

        @classmethod
        async def start_cell(cls, *_: object) -> None:
            raise CellError("RuntimeError: no cgroup mount found in mountinfo")

    monkeypatch.setattr(opening, "runtime_class", lambda name: Refuses)
    with pytest.raises(CellError, match="no cgroup file system is mounted"):
        asyncio.run(opening.start_cell(CellConfig(runtime="runc"), cast(Any, Refuses)))


def test_the_error_of_a_check_is_explained() -> None:
    found = first_error_line(
        ["sh", "-c", "echo warning >&2; echo 'permission denied: docker socket' >&2; exit 1"], 10.0
    )
    assert found is not None and re.match("this user has no access to the Docker engine; .*", found)
    assert first_error_line(["sh", "-c", "printf 'first\\nsecond' >&2; exit 1"], 10.0) == "first"
