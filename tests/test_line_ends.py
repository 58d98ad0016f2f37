"""A name that an agent chooses ends no line: `splitlines` and universal newlines split at more than a line feed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import redline
from redline.cell import footprint
from redline.tether import identity

ROOT = Path(redline.__file__).parent

OF_OUR_OWN = {
    "report/published/__init__.py": "a table that redline ships",
    "report/words.py": "a text that redline ships",
    "plan_file.py": "plans that redline ships",
    "scenarios/continuity.py": "a text that redline wrote",
    "scenarios/job.py": "the agent's answer, compared without regard to how its lines end",
    "controls/onward.py": "a brief, read by a control",
    "run/extract.py": "an error's message, cut to its first line for a report",
    "verify/programs/census_sockets.py": "numbers of the kernel's (net/tcp)",
    "verify/programs/restart.py": "bytes of mappings, and mounts, which no agent can make",
    "verify/writes.py": "bytes of programs, and mounts, which no agent can make",
    "verify/client.py": "the events of a reply: what ends a line of its own changes the agent's own reply only",
    "verify/phrases.py": "what the agent says, by lines as a reader sees them",
    "subject/bundle/agent/agent.py": "a block of commands that shows a terminal, as the model wrote it",
    "controls/programs/served.py": "a control's own events",
    "verify/programs/census_content.py": "bytes of programs",
    "verify/programs/census_files.py": "the kernel's mountinfo, meminfo and memory.stat",
    "verify/programs/census_processes.py": "the kernel's fdinfo",
    "cell/state.py": "the machine's /etc/subuid",
    "cell/runtime.py": "what a container runtime prints",
    "cell/docker/engine.py": "ids and labels that redline gave",
    "cell/docker/cell.py": "base64 and ASCII JSON of our own program",
    "cell/command.py": "JSON of our own program, as bytes",
    "cell/footprint.py": "the machine's own mountinfo, cgroup and uid_map",
    "cell/watch.py": "the kernel's table of routes",
    "seal/bounds.py": "the machine's own cgroup",
    "seal/matrix.py": "the machine's counters of interfaces",
    "seal/programs/network.py": "the kernel's table of routes",
    "seal/programs/privilege.py": "the kernel's tables of shared memory, counted",
    "seal/programs/outside.py": "the kernel's table of routes",
    "seal/programs/quick.py": "the kernel's table of routes",
}
"""Files that may call `splitlines`, each with what it is called on: nothing in which an agent chooses the bytes."""

MARKS = ["\u2028", "\x85", "x\r", "x\x0b", "x\x1c", "\udcff\r"]


def files_that_split_lines() -> Iterator[str]:
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "splitlines":
                yield str(path.relative_to(ROOT))


def test_lines_are_split_so_only_where_no_agent_chooses_the_bytes() -> None:
    assert set(files_that_split_lines()) == set(OF_OUR_OWN)


@pytest.mark.parametrize("mark", MARKS, ids=ascii)
def test_no_name_makes_a_process_another_users(mark: str) -> None:
    raw = f"{mark}Uid:\t4242".encode(errors="surrogateescape")
    script = f"import ctypes,sys; ctypes.CDLL(None).prctl(15, {raw!r}, 0, 0, 0); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        assert raw in Path(f"/proc/{process.pid}/comm").read_bytes()
        assert footprint._uid(process.pid) != 4242
        assert 4242 not in identity._users(process.pid)
        process.stdin.close()
