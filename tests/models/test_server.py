"""A server that redline starts is reachable only on the loopback interface with its key, and is never left behind."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from redline._errors import UsageError
from redline.models.fit import Size
from redline.models.gguf_header import read_gguf
from redline.models.server import EmbeddedServer, _checked_address, read_properties, total_slots
from tests.local_server import write_model

SIZE = Size(ctx=1024, slots=3, threads=1, prompts_mib=0)
GONE_SECONDS = 5.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("a model") / "random.gguf"
    write_model(path)
    return path


@pytest.fixture
def server(model: Path, tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(read_gguf(model), "random", SIZE, 16, tmp_path / "server.log")
    yield server
    server.close()


def family(server: EmbeddedServer) -> list[psutil.Process]:
    keeper = psutil.Process(server.pid)
    return [keeper, *keeper.children(recursive=True)]


def all_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=GONE_SECONDS)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + GONE_SECONDS
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def status(address: str, key: str | None) -> int:
    request = urllib.request.Request(f"{address}/v1/models", headers={} if key is None else {"Authorization": key})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return int(opener.open(request, timeout=10).status)
    except urllib.error.HTTPError as error:
        return error.code


def test_it_serves_only_on_loopback_with_its_key_and_ends_when_closed(server: EmbeddedServer, tmp_path: Path) -> None:
    found = server.start()
    assert (found.slots, found.ctx) == (SIZE.slots, SIZE.ctx)
    assert found.sampling["top_k"] == 40
    assert server.address is not None
    assert status(server.address, None) == 401
    assert status(server.address, f"Bearer {server.key}") == 200
    processes = family(server)
    assert len(processes) == 2
    listening = [one.laddr.ip for process in processes for one in process.net_connections() if one.status == "LISTEN"]
    assert listening == ["127.0.0.1"]
    assert not any(server.key in word for process in processes for word in process.cmdline())
    server.close()
    assert not any(process.is_running() for process in processes)
    assert "listening on http://127.0.0.1" in (tmp_path / "server.log").read_text()


@pytest.mark.parametrize("victim", ["keeper", "server"])
def test_neither_of_its_processes_outlives_the_other(server: EmbeddedServer, victim: str) -> None:
    server.start()
    keeper, serving = family(server)
    (keeper if victim == "keeper" else serving).kill()
    assert until(lambda: not server.running)
    assert all_gone([keeper, serving])


@pytest.mark.long
def test_a_stopped_server_can_still_be_closed(server: EmbeddedServer) -> None:
    server.start()
    processes = family(server)
    for process in processes:
        process.suspend()
    server.close()
    assert all_gone(processes)


OWNER = """
import os, sys, threading, time
from pathlib import Path
from tests.models.test_server import SIZE
from redline.models.gguf_header import read_gguf
from redline.models.server import EmbeddedServer
server = EmbeddedServer(read_gguf(Path(sys.argv[1])), "random", SIZE, 16)
starter = threading.Thread(target=server.start)
starter.start()
if sys.argv[2] == "ready":
    starter.join()
    # The thread that started it has ended: its own parent-death signal would have arrived by now.
while server.pid is None:
    pass
print(server.pid, flush=True)
if sys.argv[2:] == ["ready", "with another"] and os.fork() == 0:
    time.sleep(60)
time.sleep(600)
"""


@pytest.mark.parametrize("moment", ["ready", "loading"])
def test_it_ends_when_its_owner_is_killed(moment: str, model: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(model), moment], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    try:
        assert owner.stdout is not None
        keeper = psutil.Process(int(owner.stdout.readline()))
        if moment == "ready":
            time.sleep(1)
            assert len(keeper.children()) == 1, "it ended with the thread that started it"
        processes = [keeper, *keeper.children(recursive=True)]
    finally:
        owner.kill()
        owner.communicate()
    assert all_gone(processes)


def test_it_ends_even_if_another_process_holds_the_pipe_open(model: Path) -> None:
    """A process that the owner forks without exec inherits the pipe; the server also checks who its parent is."""
    command = [sys.executable, "-c", OWNER, str(model), "ready", "with another"]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert owner.stdout is not None
    keeper = psutil.Process(int(owner.stdout.readline()))
    assert until(lambda: len(psutil.Process(owner.pid).children()) > 1)
    others = [one for one in psutil.Process(owner.pid).children() if one.pid != keeper.pid]
    processes = [keeper, *keeper.children()]
    try:
        assert others
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert all_gone(processes)
        assert all(one.is_running() for one in others)
    finally:
        for one in others:
            one.kill()
        owner.stdout.close()


def test_a_failed_start_reports_the_reason_in_one_line_and_leaves_no_process(model: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model.read_bytes()[:-64])
    server = EmbeddedServer(read_gguf(cut), "cut", SIZE, 16, tmp_path / "server.log")
    with pytest.raises(UsageError, match=r"^its server ended before it was ready: .*file bounds.*server\.log\)$"):
        server.start()
    assert not server.running
    again = EmbeddedServer(read_gguf(cut), "cut", SIZE, 16)
    with pytest.raises(UsageError, match="file bounds"):
        again.start()


def test_an_existing_log_is_not_overwritten(model: Path, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("of another run")
    with pytest.raises(UsageError, match="File exists"):
        EmbeddedServer(read_gguf(model), "random", SIZE, 16, log).start()
    assert log.read_text() == "of another run"


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(server: EmbeddedServer) -> None:
    server.start()
    assert server.pid is not None
    assert os.getpgid(server.pid) != os.getpgid(0)


@pytest.mark.parametrize(
    "document",
    [{}, {"total_slots": "4"}, {"total_slots": True}, {"total_slots": -1}, {"default_generation_settings": [1]}],
)
def test_invalid_properties_are_omitted(document: dict[str, object]) -> None:
    found = read_properties(document | {"model_ftype": 4}, SIZE)
    assert (found.slots, found.ctx, found.quantisation, found.sampling) == (SIZE.slots, None, None, {})
    assert total_slots(document) is None


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"address": 3}, {"address": "http://0.0.0.0:80"}, {"address": "http://127.0.0.1.evil:80"}],
)
def test_only_a_loopback_address_is_accepted(document: object) -> None:
    with pytest.raises(UsageError, match=r"another address"):
        _checked_address(document)
