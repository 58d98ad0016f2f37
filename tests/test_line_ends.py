"""Names chosen by an agent cannot forge lines: `splitlines` and universal newlines split at more than line feeds."""

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

ALLOWED = {
    "report/published/__init__.py": "a table that redline ships",
    "report/words.py": "a text that redline ships",
    "plan_file.py": "plans that redline ships",
    "scenarios/continuity/__init__.py": "a text that redline wrote",
    "scenarios/job.py": "the agent's answer, compared without regard to how its lines end",
    "controls/chain_and_remote.py": "a brief, read by a control",
    "run/judgement.py": "an error's message, cut to its first line for a report",
    "verify/programs/census_sockets.py": "numbers written by the kernel (net/tcp)",
    "verify/programs/restart.py": "bytes of mappings, and mounts, which no agent can create",
    "verify/writes.py": "bytes of programs, and mounts, which no agent can create",
    "verify/client.py": "the events of a reply: a forged line changes the agent's own reply only",
    "verify/phrases.py": "the agent's text, in lines as a reader sees them",
    "subject/bundle/agent/agent.py": "a block of commands in a terminal session, as the model wrote it",
    "controls/programs/served.py": "a control's own events",
    "verify/programs/census_content.py": "bytes of programs",
    "verify/programs/census_files.py": "the kernel's mountinfo, meminfo and memory.stat",
    "verify/programs/census_processes.py": "the kernel's fdinfo",
    "cell/load.py": "programs that redline ships",
    "cell/state.py": "the host's /etc/subuid",
    "cell/runtime.py": "the output of a container runtime",
    "cell/docker/engine.py": "ids and labels that redline assigned",
    "cell/docker/cell.py": "base64 and ASCII JSON written by redline's own program",
    "cell/command.py": "JSON written by redline's own program, as bytes",
    "cell/footprint.py": "the host's mountinfo, cgroup and uid_map",
    "cell/watch.py": "the kernel's routing table",
    "seal/bounds.py": "the host's cgroup",
    "seal/matrix.py": "the host's interface counters",
    "seal/programs/network.py": "the kernel's routing table",
    "seal/programs/privilege.py": "the kernel's tables of shared memory, counted",
    "seal/programs/outside.py": "the kernel's routing table",
    "seal/programs/quick.py": "the kernel's routing table",
}
"""Files that may call `splitlines`, each with the text that it splits; no agent chooses the bytes of these."""

MARKS = ["\u2028", "\x85", "x\r", "x\x0b", "x\x1c", "\udcff\r"]


def files_that_split_lines() -> Iterator[str]:
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "splitlines":
                yield str(path.relative_to(ROOT))


@pytest.mark.slow
def test_splitlines_is_called_only_on_text_that_no_agent_chooses() -> None:
    assert set(files_that_split_lines()) == set(ALLOWED)


@pytest.mark.parametrize("mark", MARKS, ids=ascii)
def test_a_process_name_cannot_forge_the_user_of_a_process(mark: str) -> None:
    raw = f"{mark}Uid:\t4242".encode(errors="surrogateescape")
    script = f"import ctypes,sys; ctypes.CDLL(None).prctl(15, {raw!r}, 0, 0, 0); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        assert raw in Path(f"/proc/{process.pid}/comm").read_bytes()
        assert footprint._uid(process.pid) != 4242
        assert 4242 not in identity._users(process.pid)
        process.stdin.close()
