"""`redline doctor` on models: usable, unusable, and addresses at which nothing listens."""

import json
import socket

import pytest

from redline._cli._model_checks import model_servers
from redline._cli.main import execute
from redline._errors import ExitCode
from tests.model_server import model_server

LOCAL = "openai-api/local/x"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("LOCAL_API_KEY", "secret-key")
    return monkeypatch


def test_an_address_at_which_nothing_listens_is_not_ok(at: pytest.MonkeyPatch) -> None:
    port = free_port()
    at.setenv("LOCAL_BASE_URL", f"http://user:secret-word@127.0.0.1:{port}/v1")
    found = {finding.what: finding for finding in model_servers()}
    server = found["server of openai-api/local"]
    assert server.state == "optional"
    assert f"nothing listens at 127.0.0.1:{port}" in server.found
    assert "secret" not in str(list(found.values()))


def test_an_address_at_which_something_listens_is_ok(at: pytest.MonkeyPatch) -> None:
    with model_server("ok") as up:
        at.setenv("LOCAL_BASE_URL", up.base_url)
        assert {finding.what: finding.state for finding in model_servers()}["server of openai-api/local"] == "ok"


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://[::1", "http://127.0.0.1:99999999"])
def test_an_invalid_address_is_not_an_internal_error(at: pytest.MonkeyPatch, url: str) -> None:
    at.setenv("LOCAL_BASE_URL", url)
    assert [finding.what for finding in model_servers() if "local" in finding.what] == []


@pytest.mark.slow
def test_with_a_model_only_the_model_is_checked(at: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with model_server("text_call") as up:
        at.setenv("LOCAL_BASE_URL", up.base_url)
        assert execute(["doctor", "--model", LOCAL, "--json"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert [finding["state"] for finding in found] == ["ok", "optional"]
    assert "tool calls text" in found[0]["found"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("behaviour", "expected"), [("no_tools400", "--enable-auto-tool-choice"), ("key401", "HTTP 401")]
)
def test_a_model_that_cannot_be_used_makes_the_exit_code_two(
    at: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], behaviour: str, expected: str
) -> None:
    with model_server(behaviour) as up:
        at.setenv("LOCAL_BASE_URL", up.base_url)
        assert execute(["doctor", "--model", LOCAL]) == ExitCode.USAGE
    assert expected in capsys.readouterr().out


def test_a_model_whose_server_is_down_makes_the_exit_code_two(
    at: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at.setenv("LOCAL_BASE_URL", f"http://127.0.0.1:{free_port()}/v1")
    assert execute(["doctor", "--model", LOCAL]) == ExitCode.USAGE
    assert "nothing answers at" in capsys.readouterr().out


def test_a_control_needs_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["doctor", "--model", "redline/replicator"]) == ExitCode.OK
    assert "control; no server needed" in capsys.readouterr().out
