"""Hosts that refuse cells: without rights, mappings, cgroups or controllers. The error says what is missing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hosts.imitated import QUICK_SEAL, redline_on
from tests.rootless import rootless

pytestmark = [
    pytest.mark.cell,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the mounts of a process"),
]

SEAL = [sys.executable, "-m", "redline", *QUICK_SEAL]
TIMEOUT = 120.0

WITHOUT_ROOT = """
import sys
from tests.rootless import rootless
done = rootless(sys.argv[1:])
sys.stdout.write(done.stdout)
sys.stderr.write(done.stderr)
sys.exit(done.returncode)
"""
ROOT = Path(__file__).parents[2]


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that a command ended with one line that contains these words."""
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


def without_root(changes: Sequence[str], command: Sequence[str] = SEAL) -> subprocess.CompletedProcess[str]:
    """Run a command as a user without root on a host with changed mounts; by default, measure the seal."""
    script = "\n".join(["mount --make-rprivate /", *changes, 'exec "$@"'])
    return subprocess.run(
        ["unshare", "--mount", "sh", "-e", "-c", script, "sh", sys.executable, "-c", WITHOUT_ROOT, *command],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.long
@pytest.mark.host("a container without SYS_ADMIN", how="really")
def test_without_the_capability_sys_admin() -> None:
    command = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", *SEAL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    refused(done, "without SYS_ADMIN")


@pytest.mark.long
@pytest.mark.host("newuidmap without setuid", how="really")
def test_a_newuidmap_without_setuid(tmp_path: Path) -> None:
    program = shutil.which("newuidmap")
    assert program is not None
    shutil.copyfile(program, tmp_path / "newuidmap")
    (tmp_path / "newuidmap").chmod(0o755)
    done = without_root([f"mount --bind {tmp_path}/newuidmap {program}"])
    refused(done, "it is not setuid")


TWO_NODES = """
import anyio
from redline._cli._host_checks import _hidden_processes
from redline.cell import CellConfig, open_cell
from redline.cell.errors import CellError
async def main(*nodes):
    try:
        async with open_cell(CellConfig(runtime="runc", nodes=nodes)):
            print("made")
    except CellError as error:
        print(error)
anyio.run(main, "default")
anyio.run(main, "default", "target")
print(*(finding.found for finding in _hidden_processes()))
"""


@pytest.mark.long
@pytest.mark.host("/proc mounted with hidepid=2, without root", how="really")
def test_without_root_a_second_node_needs_visible_processes() -> None:
    done = without_root(["mount -t proc -o hidepid=2 proc /proc"], [sys.executable, "-c", TWO_NODES])
    assert done.returncode == 0, done.stderr
    made, refusal, finding = done.stdout.splitlines()
    assert made == "made"
    assert refusal.startswith("/proc is mounted with hidepid") and "Reported as: " in refusal
    assert finding.startswith("scenarios with a second node cannot run: /proc is mounted with hidepid")


@pytest.mark.long
@pytest.mark.host("read-only cgroups", how="really")
def test_read_only_cgroups() -> None:
    done = redline_on(
        ["for d in /sys/fs/cgroup/*/ /sys/fs/cgroup; do mount -o remount,bind,ro $d 2>/dev/null || true; done"],
        *QUICK_SEAL,
    )
    refused(done, "cgroups are mounted read-only")


@pytest.mark.long
@pytest.mark.host("no memory controller, as with cgroup_disable=memory", how="really")
@pytest.mark.skipif(not Path("/sys/fs/cgroup/memory").exists(), reason="the host has no hierarchy for memory alone")
def test_without_the_memory_controller() -> None:
    refused(redline_on(["umount -l /sys/fs/cgroup/memory"], *QUICK_SEAL), "a cgroup controller that limits cells")


@pytest.mark.long
@pytest.mark.host("only cgroup version 2, without controllers for cells", how="really")
def test_with_only_cgroup_version_2_and_no_controller() -> None:
    """The controllers stay with version 1, where the host mounts both."""
    if (Path("/sys/fs/cgroup/cgroup.controllers")).exists():
        pytest.skip("this host has version 2 with its controllers, and every other test runs on it")
    changes = ["umount -R /sys/fs/cgroup", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"]
    refused(redline_on(changes, *QUICK_SEAL), "a cgroup controller that limits cells")


@pytest.mark.long
@pytest.mark.host("IPv6 off by sysctl", how="really")
def test_without_ipv6() -> None:
    """The settings count for a network namespace, so the test sets them in one of its own."""
    off = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-e", "-c", f'{off}; exec "$@"', "sh", *SEAL],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


SLOW_CELL = """
import anyio, sys
from redline.cell import CellConfig, open_cell
async def main():
    async with open_cell(CellConfig(runtime="runc")) as cell:
        print(cell.nodes["default"].init_pid, flush=True)
        await anyio.sleep(5)
        done = await cell.exec(["id", "-u"])
        print(done.stdout.decode().strip())
anyio.run(main)
"""


@pytest.mark.long
@pytest.mark.host("two users of one host, without root", how="really")
def test_two_users_have_cells_at_the_same_time() -> None:
    """Both use /tmp, as users without a session do."""
    command = ["env", "-u", "XDG_RUNTIME_DIR", sys.executable, "-c", SLOW_CELL]
    with ThreadPoolExecutor() as users:
        both = list(users.map(lambda _: rootless(command), range(2)))
    for done in both:
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[1] == "1000"


@pytest.mark.long
@pytest.mark.host("user namespaces disabled", how="really")
def test_without_user_namespaces() -> None:
    """The limit counts for a user namespace and those inside it, so the test sets it in one of its own."""
    # A program that starts after its ids are mapped is root in the namespace.
    script = 'echo ready; read -r _; exec sh -e -c "$0" sh "$@"'
    changed = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    with subprocess.Popen(
        ["unshare", "--user", "sh", "-e", "-c", script, changed, *SEAL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            for kind in ("uid_map", "gid_map"):
                Path(f"/proc/{process.pid}/{kind}").write_text("0 0 4294967295")
            printed, said = process.communicate("\n", timeout=TIMEOUT)
        finally:
            process.kill()
    done = subprocess.CompletedProcess([], process.returncode, printed, said)
    refused(done, "user namespaces are disabled", "user.max_user_namespaces")
