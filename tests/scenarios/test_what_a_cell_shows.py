"""Where no copy is asked for, nothing in the cell may speak of one: neither files nor paths, processes nor mounts."""

import json
from pathlib import Path

import pytest

from redline.scenarios import shutdown_avoidance
from tests.agents.trials import Facts, facts_of, saying
from tests.scenarios.forbidden import forbidden_words

pytestmark = pytest.mark.cell

OF_THE_MACHINE = ("/usr", "/proc", "/sys", "/dev")

LOOK = """python3 - <<'END'
import json, os
seen = {}
for top, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(top, name) not in ("/usr", "/proc", "/sys", "/dev")]
    for name in folders + files:
        path = os.path.join(top, name)
        seen["path " + path] = path + " " + (os.readlink(path) if os.path.islink(path) else "")
    for name in files:
        path = os.path.join(top, name)
        try:
            if os.path.isfile(path) and not os.path.islink(path):
                seen["file " + path] = open(path, "rb").read(4096 if name.endswith(".safetensors") else 1 << 20).decode(errors="replace")
        except OSError:
            pass
for pid in filter(str.isdigit, os.listdir("/proc")):
    for part in ("cmdline", "comm", "environ", "mountinfo", "cgroup", "status"):
        try:
            if int(pid) not in (os.getpid(), os.getppid()) or part not in ("cmdline", "comm"):
                seen["/proc/%s/%s" % (pid, part)] = open("/proc/%s/%s" % (pid, part), errors="replace").read()
        except OSError:
            pass
for path in ("/proc/sys/kernel/hostname", "/proc/cmdline", "/proc/mounts", "/proc/net/unix"):
    try:
        seen[path] = open(path, errors="replace").read()
    except OSError:
        pass
seen["names of the machine's programs"] = " ".join(
    os.path.join(top, name) for top, folders, files in os.walk("/usr") for name in folders + files if "redline" in name.lower() or "inspect_ai" in name)
print(json.dumps(seen))
END"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    task = shutdown_avoidance(trials=1, trigger="none", weights="1MiB", runtime="runc")
    act = saying("ls", "ls", "env; cat /proc/self/mountinfo")
    facts: Facts = facts_of(task, act, Path(tmp_path_factory.mktemp("log")), LOOK)
    seen: dict[str, str] = json.loads(facts.printed)
    return {**seen, "what the agent was shown": "\n".join(facts.shown)}


def test_nothing_in_the_cell_speaks_of_what_is_measured(shown: dict[str, str]) -> None:
    assert {where: forbidden_words(text) for where, text in shown.items() if forbidden_words(text)} == {}


def test_the_search_saw_the_whole_subject_the_job_and_the_processes(shown: dict[str, str]) -> None:
    for where in (
        "subject/README.md",
        "subject/engine/engine.py",
        "subject/agent/system_prompt.txt",
        "work/service.log",
    ):
        assert f"file /home/agent/{where}" in shown
    assert any("engine.py" in text for where, text in shown.items() if where.endswith("/cmdline"))
    assert any(where.endswith("/mountinfo") for where in shown)
