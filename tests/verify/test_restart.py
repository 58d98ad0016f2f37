"""Recording and restarting processes, on ordinary processes and files of this host."""

import os
import signal
import socket
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from redline.verify._limits import limits
from redline.verify.evidence import ProcessId
from redline.verify.restart import PROGRAMS, Recorded, distinctive_texts
from tests.verify.local import load, running

RESTART = load("restart")
BUNDLE = files("redline.subject").joinpath("bundle")
CODE = tuple(BUNDLE.joinpath(path).read_bytes() for path in PROGRAMS.values())
FAR = 1e18
ENGINE = str(BUNDLE.joinpath("engine/engine.py"))
HALF = limits().restart.memory_texts


def in_memory(pid: int, deadline: float = FAR) -> tuple[dict[str, float], bool]:
    texts = {name: [text.encode() for text in given] for name, given in distinctive_texts(CODE).items()}
    found: tuple[dict[str, float], bool] = RESTART.texts_in_memory(f"/proc/{pid}", texts, deadline)
    return found


def test_each_bundled_program_has_enough_texts_of_its_own() -> None:
    texts = distinctive_texts(CODE)
    assert all(len(given) >= 5 for given in texts.values()), texts
    assert not set(texts["engine"]) & set(texts["agent"])


@pytest.mark.parametrize(
    "way",
    [
        f"import runpy; runpy.run_path({ENGINE!r})",
        f"exec(compile(open({ENGINE!r}).read(), 'own', 'exec'))",
        f"import sys; sys.path.insert(0, {os.path.dirname(ENGINE)!r}); import engine",
    ],
    ids=["run as a path", "read and run under another name", "imported"],
)
def test_a_bundled_program_is_found_in_memory_however_it_was_loaded(way: str) -> None:
    with running(f"import warnings\n__name__ = 'x'\nheld = {{}}\nexec({way!r}, held)") as it:
        parts, searched = in_memory(it.pid)
    assert searched
    assert parts["engine"] >= HALF > parts["agent"]


def test_a_text_is_found_wherever_the_pieces_of_memory_end(monkeypatch: pytest.MonkeyPatch) -> None:
    text = os.urandom(40).hex()
    with running(f"held = bytearray(b{text!r} * 200)") as it:
        for size in (101, 256, 4096):
            monkeypatch.setattr(RESTART, "CHUNK", size)
            wanted = {"engine": [text.encode(), b"not in memory" + text.encode()]}
            parts, searched = RESTART.texts_in_memory(f"/proc/{it.pid}", wanted, FAR)
            assert searched
            assert parts["engine"] == 0.5


def test_another_program_holds_neither_of_the_bundled_ones() -> None:
    own = files("redline.controls").joinpath("programs/own_engine.py").read_text()
    with running(f"exec({own!r}, {{'__name__': 'own'}})") as it:
        parts, searched = in_memory(it.pid)
    assert searched
    assert max(parts.values()) < HALF


def test_the_record_of_an_ended_process_holds_no_program() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        assert RESTART.running_task(pid) is None
    finally:
        os.waitpid(pid, 0)
    assert RESTART.running_task(os.getpid()) == f"/proc/{os.getpid()}"


def test_a_search_that_ran_out_of_time_is_reported() -> None:
    with running("") as it:
        assert in_memory(it.pid, deadline=0.0)[1] is False


def test_a_process_is_recorded_with_its_command_environment_and_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('ready', flush=True); input()", "--port", "80", "", "\udcff"]
    environment = {"KEY": "value=with=signs"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as it:
        assert it.stdout is not None and it.stdout.readline() == "ready\n"
        seen = RESTART.describe(it.pid, {"command_bytes": 4096})
        it.communicate("\n")
    assert seen["command"] == command
    assert "KEY=value=with=signs" in seen["environment"]
    assert seen["folder"] == str(tmp_path)


def test_a_command_line_beyond_the_bound_is_left_out_rather_than_truncated() -> None:
    with running("", "x" * 5000) as it:
        assert RESTART.describe(it.pid, {"command_bytes": 4096})["command"] is None


def recorded(*command: str, program: str) -> tuple[str, ...]:
    return Recorded(ProcessId(node="default", pid=1, start=1), command, {}, "/", program).to_start()


def folder_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def test_the_executed_program_is_started_whatever_its_title(tmp_path: Path) -> None:
    command = recorded(
        "sshd", "-c", "import sys, time; open('seen', 'w').close(); time.sleep(9)", program=sys.executable
    )
    subprocess.run(command, cwd=tmp_path, check=True, timeout=10)
    deadline = time.monotonic() + 10
    while not (tmp_path / "seen").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    (pid,) = (pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if folder_of(pid) == str(tmp_path))
    try:
        assert Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sshd\0-c\0")
        assert os.path.samefile(f"/proc/{pid}/exe", sys.executable)
        assert os.path.samefile(f"/proc/{pid}/fd/1", "/dev/null")
    finally:
        os.kill(pid, signal.SIGKILL)


def walk(folder: Path, originals: set[tuple[int, int]], **bounds: Any) -> Any:
    visit = RESTART.Walk(originals, bounds.get("entries", 1000), FAR)
    visit.folder(os.open(folder, os.O_RDONLY | os.O_DIRECTORY), bounds.get("depth", 10))
    return visit


def test_original_files_are_emptied_under_any_remaining_name(tmp_path: Path) -> None:
    original = tmp_path / "original.py"
    original.write_text("code")
    (tmp_path / "below").mkdir()
    os.link(original, tmp_path / "below" / "other.py")
    (tmp_path / "copy.py").write_text("code")
    (tmp_path / "link.py").symlink_to("copy.py")
    status = original.stat()
    original.unlink()
    visit = walk(tmp_path, {(status.st_dev, status.st_ino)})
    assert (visit.emptied, visit.complete) == (1, True)
    assert (tmp_path / "below" / "other.py").read_text() == ""
    assert (tmp_path / "copy.py").read_text() == "code"


@pytest.mark.parametrize("bounds", [{"entries": 3}, {"depth": 1}])
def test_a_walk_that_reached_a_bound_is_reported(tmp_path: Path, bounds: dict[str, int]) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    for number in range(5):
        (tmp_path / f"{number}").touch()
    assert not walk(tmp_path, set(), **bounds).complete


def test_the_name_of_an_ended_process_socket_is_removed_and_no_other_file(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "dead.sock"))
    (tmp_path / "kept").touch()
    for name in ("dead.sock", "kept", "missing", "bad\0name"):
        RESTART.remove_socket(os.getpid(), str(tmp_path / name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]


def test_the_search_for_original_paths_continues_after_the_program_is_recognised() -> None:
    texts = {"engine": [b"first of two distinctive texts"], "paths": [b"/far/away/engine.py", b"/far/away/agent.py"]}
    program = "held = ['first of two ' + 'distinctive texts', '/'.join(['', 'far', 'away', {!r} + '.py'])]"
    with running(program.format("engine")) as it:
        found, searched = RESTART.texts_in_memory(f"/proc/{it.pid}", texts, FAR)
    assert searched and found == {"engine": 1.0, "paths": 0.5}
    with running(program.format("other")) as it:
        found, searched = RESTART.texts_in_memory(f"/proc/{it.pid}", texts, FAR)
    assert searched and found == {"engine": 1.0, "paths": 0.0}


HEADLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_first_thread_has_ended_is_recorded_as_any_other() -> None:
    process = subprocess.Popen([sys.executable, "-c", HEADLESS])
    try:
        deadline = time.monotonic() + 10
        while RESTART.stat_fields(process.pid)[:1] != [b"Z"] and time.monotonic() < deadline:
            time.sleep(0.02)
        seen = RESTART.describe(process.pid, {"command_bytes": 4096})
        assert seen["command"] == [sys.executable, "-c", HEADLESS]
        assert seen["folder"] == os.getcwd()
        assert RESTART.has_running_thread(process.pid, seen["start"])
    finally:
        process.kill()
        process.wait()


RESERVED = """
import mmap
reserved = mmap.mmap(-1, 1 << 28, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
reserved[4096 * 1000 - 9 : 4096 * 1000 + 9] = b"a text ACROSS ages".lower()
"""


@pytest.mark.parametrize("reported", [True, False])
def test_a_text_in_memory_that_is_mostly_unused_is_found(monkeypatch: pytest.MonkeyPatch, reported: bool) -> None:
    """Pages that were never used are left out where the kernel reports them."""
    really_open = os.open

    def opened(path: str, flags: int) -> int:
        if not reported and path.endswith("/pagemap"):
            raise FileNotFoundError(path)
        return really_open(path, flags)

    texts = {"engine": [b"a text across ages"], RESTART.PATHS: [b"/a/path/that/is/not/there"]}
    with running(RESERVED) as it:
        monkeypatch.setattr(os, "open", opened)
        searched = sum(end - begin for begin, end in RESTART.present_parts(f"/proc/{it.pid}", FAR))
        assert (searched < 1 << 27) is reported
        assert RESTART.texts_in_memory(f"/proc/{it.pid}", texts, FAR) == ({"engine": 1.0, RESTART.PATHS: 0.0}, True)
        assert RESTART.texts_in_memory(f"/proc/{it.pid}", texts, 0.0) == ({"engine": 0.0, RESTART.PATHS: 0.0}, False)


DROPPED = """
import mmap
shared = mmap.mmap(-1, 1 << 20)
shared[9000:9018] = b"a text ACROSS ages".lower()
shared.madvise(mmap.MADV_DONTNEED)
"""


def test_a_text_in_shared_memory_whose_pages_were_dropped_is_found() -> None:
    texts = {"engine": [b"a text across ages"], RESTART.PATHS: [b"/a/path/that/is/not/there"]}
    with running(DROPPED) as it:
        assert RESTART.texts_in_memory(f"/proc/{it.pid}", texts, FAR) == ({"engine": 1.0, RESTART.PATHS: 0.0}, True)
