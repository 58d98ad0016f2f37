"""Folders of other hosts: mounted without exec, too small, read-only, over quota, missing."""

import os
import sys
from pathlib import Path

import pytest

from tests.hosts.imitated import ONE_TRIAL, covered_tmp, redline_on
from tests.rootless import rootless

pytestmark = [
    pytest.mark.cell,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the mounts of a process"),
]

WORKS = {
    "/run without exec, as on Debian and Ubuntu": ["mount -t tmpfs -o noexec,nosuid,nodev,mode=755 tmpfs /run"],
    "/tmp without exec": covered_tmp("noexec,nosuid,nodev"),
    "a small /tmp": covered_tmp("size=16k"),
    "a read-only /tmp": covered_tmp("ro"),
    "no home": ["export HOME=/nonexistent"],
    "HOME unset": ["unset HOME"],
    "a hidden /proc": ["mount -t proc -o hidepid=2 proc /proc"],
}
"""Hosts on which a run just works."""

HOME_IS_SMALL = ["mount -t tmpfs -o size=16k tmpfs /mnt", "export HOME=/mnt"]
WITHOUT_TRACES = {
    "a home over quota": [*HOME_IS_SMALL, "dd if=/dev/zero of=/mnt/full bs=1k 2>/dev/null || true"],
    "a read-only home": ["mount -t tmpfs -o ro tmpfs /mnt", "export HOME=/mnt"],
}
"""Hosts on which a run works, and says that Inspect's traces are not kept."""

ONE_LINE = {
    "a read-only /run": (["mount -t tmpfs -o ro tmpfs /run"], 2, "/run/pods-0 cannot be made"),
    "a full /run": (["mount -t tmpfs -o size=64k,mode=755 tmpfs /run"], 3, "No space left on device"),
    "no cgroups": (["umount -R /sys/fs/cgroup", "mount -t tmpfs tmpfs /sys/fs/cgroup"], 3, "cgroup"),
}
"""Hosts on which no run is possible."""


def trial(changes: list[str], tmp_path: Path) -> tuple[int, str, str]:
    # The folder of results stays reachable where /tmp, in which pytest has its folders, is covered.
    kept = f"mount --bind {tmp_path} /srv"
    done = redline_on([kept, *changes], *ONE_TRIAL, "/srv/out")
    return done.returncode, done.stdout, done.stderr


@pytest.mark.long
@pytest.mark.parametrize("host", WORKS)
@pytest.mark.host("/run mounted noexec, as on Debian and Ubuntu", how="really")
@pytest.mark.host("/tmp mounted noexec", how="really")
@pytest.mark.host("/tmp of 16 KiB", how="really")
@pytest.mark.host("a read-only /tmp", how="really")
@pytest.mark.host("no home folder, or HOME not set", how="really")
@pytest.mark.host("/proc mounted with hidepid=2", how="really")
def test_a_run_works(host: str, tmp_path: Path) -> None:
    code, printed, said = trial(WORKS[host], tmp_path)
    assert (code, said) == (0, ""), printed + said


@pytest.mark.long
@pytest.mark.parametrize("changes", WITHOUT_TRACES.values(), ids=WITHOUT_TRACES)
@pytest.mark.host("a home folder over quota", how="injected")
@pytest.mark.host("a read-only home folder", how="really")
def test_a_run_works_without_traces_and_says_so(changes: list[str], tmp_path: Path) -> None:
    code, printed, said = trial(changes, tmp_path)
    assert code == 0, printed + said
    assert said.count("\n") == 1 and "Inspect's traces are not kept" in said


@pytest.mark.long
@pytest.mark.parametrize(("changes", "code", "message"), ONE_LINE.values(), ids=ONE_LINE)
@pytest.mark.host("a read-only /run", how="really")
@pytest.mark.host("a full /run", how="really")
@pytest.mark.host("no cgroups", how="really")
def test_a_run_that_is_not_possible_is_one_line(changes: list[str], code: int, message: str, tmp_path: Path) -> None:
    found, _, said = trial(changes, tmp_path)
    assert found == code, said
    assert said.count("\n") == 1 and message in said


@pytest.mark.long
@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("d=$HOME/$(printf 'x%.0s' $(seq 120)); mkdir -p $d; export XDG_RUNTIME_DIR=$d", 0),
        ("unset XDG_RUNTIME_DIR", 0),
        ("export XDG_RUNTIME_DIR=/run/user/99999", 2),
        ("touch $HOME/file; export XDG_RUNTIME_DIR=$HOME/file", 2),
        ("export XDG_RUNTIME_DIR=/etc", 2),
    ],
    ids=["longer than a socket's path", "unset", "stale", "a file", "another user's"],
)
@pytest.mark.host("XDG_RUNTIME_DIR not set, stale, a file, or of another user", how="really")
@pytest.mark.host("socket paths of more than 108 bytes", how="really")
def test_a_runtime_folder_works_or_is_one_line(setting: str, code: int) -> None:
    command = [sys.executable, "-m", "redline", "seal", "--quick", "--runtime", "runc"]
    done = rootless(["sh", "-c", f'{setting}; exec "$@"', "sh", *command])
    assert done.returncode == code, done.stdout + done.stderr
    if code:
        assert done.stderr.count("\n") == 1 and "set XDG_RUNTIME_DIR to a folder of yours" in done.stderr
