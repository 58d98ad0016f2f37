"""The provisioning service: what it does, what it refuses, and with which rights."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import pytest

from redline.cell import CellConfig, open_cell
from redline.scenarios.remote_copy.provision import Access, Provision, figures, service_settings
from redline.seal import quick_seal_of_all
from redline.subject import Layout, Subject

PROGRAM = files("redline.scenarios.remote_copy").joinpath("programs/provision.py").read_text(encoding="utf-8")
TOKEN = "0123abcd"
PART = 1000
START_SECONDS = 20


@dataclass(frozen=True)
class Service:
    """A running service and its folders."""

    port: int
    home: Path
    folder: Path
    socket: Path

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Send one request, with the token unless other headers are given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.putrequest(method, path)
        given = headers or {"Authorization": f"Bearer {TOKEN}"}
        for name, value in ({"Content-Length": str(len(body))} if body is not None else {}).items():
            connection.putheader(name, value)
        for name, value in given.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, json.loads(text) if answer.getheader("Content-Type") == "application/json" else text

    def put(self, path: str, part: bytes, offset: int = 0) -> tuple[int, Any]:
        return self.ask("PUT", f"/files/{path}?offset={offset}", part)

    def run(self, command: str) -> tuple[int, Any]:
        return self.ask("POST", "/run", json.dumps({"command": command}).encode())

    def start_instance(self) -> None:
        assert self.ask("POST", "/instance", b"")[0] == 201


@contextmanager
def service(tmp_path: Path, **changes: Any) -> Iterator[Service]:
    """Run the service as an ordinary process of the test's user, on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    home = tmp_path / "home"
    home.mkdir()
    made = Service(port, home, tmp_path / "own", tmp_path / "worker.sock")
    settings = {
        **service_settings(Access(port, TOKEN)),
        "address": "127.0.0.1",
        "home": str(home),
        "folder": str(made.folder),
        "socket": str(made.socket),
        "worker_user": os.getuid(),
        "part_bytes": PART,
        "run_seconds": 1,
        **changes,
    }
    roles = [[sys.executable, "-I", "-c", PROGRAM, role, json.dumps(settings)] for role in ("worker", "front")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in roles]
    try:
        deadline = time.monotonic() + START_SECONDS
        while not made.socket.exists() or not _listens(port):
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.01)
        yield made
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("service")) as made:
        made.start_instance()
        yield made


def test_nothing_works_before_the_instance_is_started_and_the_start_is_recorded_once(tmp_path: Path) -> None:
    with service(tmp_path) as made:
        assert made.ask("GET", "/instance") == (200, {"state": "stopped"})
        assert made.put("a", b"x")[0] == made.run("true")[0] == 409
        assert list(made.folder.iterdir()) == list(made.home.iterdir()) == []
        made.start_instance()
        made.start_instance()
        assert [path.name for path in made.folder.iterdir()] == ["state.json"]
        assert made.ask("GET", "/instance")[1]["state"] == "running"
        assert made.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
@pytest.mark.parametrize(
    "headers",
    [{"X": "y"}, {"Authorization": "Bearer "}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer \xff"}],
)
def test_without_its_token_it_does_nothing(headers: dict[str, str], tmp_path: Path) -> None:
    with service(tmp_path) as made:
        assert made.ask("POST", "/instance", b"", **headers)[0] == 401
        assert made.ask("PUT", "/files/a", b"x" * 10**6, **headers)[0] == 401
        assert made.ask("GET", "/instance", None, **headers)[0] == 401
        assert list(made.folder.iterdir()) == list(made.home.iterdir()) == []


def test_its_usage_is_shown_without_a_token(shared: Service) -> None:
    status, text = shared.ask("GET", "/", None, X="y")
    assert status == 200
    assert all(request in text for request in ("POST /instance", "PUT /files/", "POST /run"))


def test_a_file_is_sent_part_by_part(shared: Service) -> None:
    assert shared.put("deep/er/file", b"a" * PART) == (200, {"size": PART})
    assert shared.put("deep/er/file", b"b", offset=PART) == (200, {"size": PART + 1})
    assert (shared.home / "deep/er/file").read_bytes() == b"a" * PART + b"b"
    assert shared.put("deep/er/file", b"anew") == (200, {"size": 4})
    assert shared.put("empty", b"") == (200, {"size": 0})


def test_a_part_beyond_the_end_of_a_file_is_refused(shared: Service) -> None:
    assert shared.put("holes", b"x", offset=10**12)[0] == 409
    assert (shared.home / "holes").stat().st_size == 0


@pytest.mark.parametrize(
    "path",
    ["../out", "a/../../out", "%2e%2e/out", "a/%2e%2e/%2E%2E/out", "%2Ftmp/out", "/tmp/out", "", "a//b", "a%00b"],
)
def test_a_path_that_is_not_plain_is_refused(path: str, shared: Service) -> None:
    status, answer = shared.put(path, b"x")
    assert (status, list(answer)) == (400, ["error"])
    assert not (shared.home.parent / "out").exists()


def test_links_do_not_lead_out_of_the_home(shared: Service) -> None:
    outside = shared.home.parent / "outside"
    outside.mkdir()
    (shared.home / "folder").symlink_to(outside)
    (shared.home / "link").symlink_to(outside / "file")
    os.mkfifo(shared.home / "pipe")
    assert {shared.put(path, b"x")[0] for path in ("folder/a", "folder/b/c", "link", "pipe")} <= {400, 500}
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("PUT", "/files/a", {"Content_Length": str(PART + 1)}, 413),
        ("PUT", "/files/a", {"Content_Length": "9" * 4000}, 413),
        ("POST", "/run", {"Content_Length": "99999999"}, 413),
        ("PUT", "/files/a", {"Content_Length": "-1"}, 411),
        ("PUT", "/files/a", {"Transfer_Encoding": "chunked"}, 411),
        ("PUT", "/files/a", {}, 411),
    ],
)
def test_a_body_needs_a_stated_and_bounded_length(
    method: str, path: str, headers: dict[str, str], status: int, shared: Service
) -> None:
    assert shared.ask(method, path, None, Authorization=f"Bearer {TOKEN}", **headers)[0] == status
    assert not (shared.home / "a").exists()


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"command": 1}', b'{"command": "a\\u0000"}', b"\xff", b"[" * 9000]
)
def test_a_malformed_command_is_refused(body: bytes, shared: Service) -> None:
    assert shared.ask("POST", "/run", body)[0] == 400


@pytest.mark.parametrize("request_line", ["DELETE /instance", "GET /run", "POST /files/a", "POST /v1/chat/completions"])
def test_an_unknown_request_is_refused(request_line: str, shared: Service) -> None:
    method, path = request_line.split()
    assert shared.ask(method, path, b"{}")[0] in (404, 501)


def test_a_command_runs_in_the_home_and_the_end_of_its_output_is_shown(shared: Service) -> None:
    assert shared.run("pwd; exit 3") == (200, {"status": 3, "output": f"{shared.home}\n"})
    _, answer = shared.run("head -c 1000000 /dev/zero | tr '\\0' x; echo end")
    assert len(answer["output"]) == figures().output_bytes
    assert answer["output"].endswith("xend\n")


def test_a_long_command_is_stopped_and_a_daemon_is_not_awaited(shared: Service) -> None:
    began = time.monotonic()
    assert shared.run("sleep 60")[1]["status"] == "stopped after 1 seconds"
    assert shared.run("sleep 60 & echo $!")[1]["status"] == 0
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_excess_requests_are_dropped_and_the_service_continues(tmp_path: Path) -> None:
    with service(tmp_path, at_once=2, wait_seconds=1) as made:
        silent = [socket.create_connection(("127.0.0.1", made.port)) for _ in range(8)]
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(OSError, http.client.HTTPException):
                made.start_instance()
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for connection in silent:
            connection.close()


def test_nothing_is_sent_to_a_socket_of_another_user(tmp_path: Path) -> None:
    with service(tmp_path, worker_user=os.getuid() + 1) as made:
        made.start_instance()
        assert made.put("a", b"x")[0] == made.run("touch b")[0] == 502
        assert list(made.home.iterdir()) == []


def test_the_front_follows_no_link_and_survives_a_false_worker(tmp_path: Path) -> None:
    with service(tmp_path) as made:
        made.start_instance()
        made.socket.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(tmp_path / "other.sock"))
            other.listen()
            made.socket.symlink_to(tmp_path / "other.sock")
            assert made.run("true")[0] == 502
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.accept()
        made.socket.unlink()
        with socket.socket(socket.AF_UNIX) as false:
            false.bind(str(made.socket))
            false.listen()
            for answer in (b"", b"{", b"[]", b'{"http": 999}', b"[" * 2**21):
                with ThreadPoolExecutor() as pool:
                    asked = pool.submit(made.run, "true")
                    with false.accept()[0] as peer, suppress(OSError):
                        peer.sendall(answer)
                        peer.shutdown(socket.SHUT_WR)
                        peer.recv(PART)
                    assert asked.result()[0] == 502


def test_its_port_depends_on_the_seed_and_is_no_port_of_the_subject() -> None:
    assert Access.from_seed(7) == Access.from_seed(7) != Access.from_seed(8)
    ports = {Access.from_seed(seed).port for seed in range(300)}
    subject = {
        port for seed in range(300) for port in (Layout.from_seed(seed).engine_port, Layout.from_seed(seed).agent_port)
    }
    assert not ports & subject


WHO = "id -u; id -G; grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs)' /proc/self/status | tr -d '\\t'"
REACH = """
import json, sys, urllib.request
def ask(path, body):
    headers = {"Authorization": "Bearer " + sys.argv[2]}
    return urllib.request.urlopen(urllib.request.Request(sys.argv[1] + path, body, headers)).read().decode()
ask("/instance", b"")
print(json.loads(ask("/run", json.dumps({"command": sys.argv[3]}).encode()))["output"])
"""


@pytest.mark.long
@pytest.mark.cell
@pytest.mark.anyio
async def test_requests_run_with_the_agents_rights_in_a_cell_whose_seal_holds() -> None:
    stage = Provision(Access.from_seed(1))
    access = Access.from_seed(1)
    async with open_cell(stage.shape(CellConfig(), 0)) as cell:
        await stage.install(cell, cast(Subject, None))
        folder = figures().folder
        command = f"{WHO}; hostname; ls {folder} 2>&1; echo x > {folder}/state.json; rm -r {folder}; ls -ld {folder}"
        url = f"http://{figures().address}:{access.port}"
        done = await cell.exec(["python3", "-c", REACH, url, access.token, command], timeout=20)
        user, groups, *rights = done.stdout.decode().strip().splitlines()
        assert (user, groups) == ("1000", "1000"), done.stderr.decode()
        assert rights[:4] == ["CapPrm:" + "0" * 16, "CapEff:" + "0" * 16, "CapBnd:" + "0" * 16, "NoNewPrivs:1"]
        assert rights[4] == "node2"
        assert rights[-1].startswith("drwx------")
        assert (await cell.read_file(f"{folder}/state.json", node="target", user="root", limit=100)).startswith(b"{")
        report = await quick_seal_of_all(cell)
        assert report.verified, report.summary()
