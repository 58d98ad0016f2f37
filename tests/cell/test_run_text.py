"""A program that runs in a fork of the first process has nothing that a command does not have, and lacks nothing."""

import json
import time
from typing import Any

import pytest

from redline.cell import CellConfig, CellGoneError, open_cell
from redline.cell.config import RuntimeName

pytestmark = pytest.mark.anyio

RUNTIMES = [
    pytest.param("runc", marks=pytest.mark.cell),
    pytest.param("runsc", marks=pytest.mark.runsc),
    pytest.param("docker", marks=(pytest.mark.docker, pytest.mark.long)),
]

SELF = """
import json, os, resource, stat
def lines(name):
    with open("/proc/self/" + name, errors="replace") as file:
        return file.read().splitlines()
rights = ("Uid", "Gid", "Groups", "NSpid", "SigBlk", "SigIgn", "Cap", "NoNewPrivs", "Seccomp", "Umask")
found = {
    "rights": [line for line in lines("status") if line.startswith(rights) and not line.startswith("NSpid")],
    "maps": lines("uid_map") + lines("gid_map"),
    "limits": [resource.getrlimit(one) for one in range(16)],
    "spaces": {name: os.readlink("/proc/self/ns/" + name) for name in ("ipc", "mnt", "net", "pid", "uts")},
    "groups": lines("cgroup"),
    "oom": lines("oom_score_adj"),
    "root": [os.readlink("/proc/self/root"), os.getcwd()],
    "variables": dict(sorted(os.environ.items())),
    "leads": os.getsid(0) == os.getpid() == os.getpgid(0),
    "open": {},
}
for name in os.listdir("/proc/self/fd"):
    try:
        found["open"][name] = stat.S_IFMT(os.fstat(int(name)).st_mode)
    except OSError:
        continue
print(json.dumps(found))
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_text_has_the_rights_limits_and_descriptors_of_a_command(runtime: RuntimeName) -> None:
    async with open_cell(CellConfig(runtime=runtime)) as cell:
        command = await cell.exec([cell.interpreter, "-I", "-S", "-c", SELF], cwd="/")
        text = await cell.run_text(SELF, timeout=20)
    assert (command.returncode, text.returncode, text.stderr) == (0, 0, b"")
    expected: dict[str, Any] = json.loads(command.stdout)
    found: dict[str, Any] = json.loads(text.stdout)
    assert found == expected
    assert set(found["open"]) == {"0", "1", "2"}


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_text_that_fails_or_hangs_reports_it_and_the_cell_goes_on(runtime: RuntimeName) -> None:
    async with open_cell(CellConfig(runtime=runtime)) as cell:
        failed = await cell.run_text("print('begun', flush=True)\nraise RuntimeError('broken')", timeout=20)
        assert (failed.returncode, failed.stdout) == (1, b"begun\n")
        assert b"RuntimeError('broken')" in failed.stderr
        assert (await cell.run_text("import sys; sys.exit(3)", timeout=20)).returncode == 1
        assert (await cell.run_text("no Python", timeout=20)).returncode == 1
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await cell.run_text("import time; time.sleep(60)", timeout=0.5)
        assert time.monotonic() - began < 20
        killed = await cell.run_text("import os; os.kill(os.getpid(), 9)", timeout=20)
        assert killed.returncode == 137
        long = await cell.run_text("print('x' * 300_000)", timeout=20, output_limit=1000)
        assert (long.returncode, len(long.stdout), long.truncated) == (0, 1000, True)


@pytest.mark.cell
async def test_a_text_changes_nothing_in_the_first_process() -> None:
    change = "import os, json, sys; os.environ['A'] = 'b'; json.dumps = None; sys.path.append('/tmp')"
    async with open_cell(CellConfig(runtime="runc")) as cell:
        await cell.run_text(change, timeout=20)
        later = await cell.run_text("import os, json, sys; print(json.dumps([os.getenv('A'), sys.path]))", timeout=20)
        found, path = json.loads(later.stdout)
        assert found is None
        assert "/tmp" not in path
    with pytest.raises(CellGoneError):
        await cell.run_text("pass", timeout=20)
