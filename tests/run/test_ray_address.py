"""`--ray` without Ray, with a wrong address, or with another option: one line, exit code 2."""

import signal
import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from redline._errors import ExitCode, UsageError
from redline.run.parts import ray_engine
from redline.run.parts.ray_engine import check_address
from tests.run.folders import say
from tests.run.test_merge import refused

RUN = ("run", "self_replication", "--model", "redline/refuser", "--runtime", "runc")


def test_without_ray_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    said = say(*RUN, "--ray", "auto", "--out", tmp_path / "out")
    refused(said, ExitCode.USAGE, r"^redline: --ray needs the extra redline\[ray\]: pip install 'redline\[ray\]'$")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("other", [("--workers", "2"), ("--part", "1/2")])
def test_only_one_way_to_run_parts_can_be_chosen(tmp_path: Path, other: tuple[str, str]) -> None:
    said = say(*RUN, "--ray", "auto", *other, "--out", tmp_path / "out")
    refused(said, ExitCode.USAGE, f"{other[0]}.*use only one of them")


@pytest.mark.parametrize("address", ["", "head", "ray://head:10001", "head:port", ":6379", "local"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="must be auto or HOST:PORT"):
        check_address(address)


def test_an_address_where_nothing_listens_is_refused_at_once() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        before = time.monotonic()
        with pytest.raises(UsageError, match="no Ray cluster can be used there: .*refused"):
            check_address(f"127.0.0.1:{bound.getsockname()[1]}")
        assert time.monotonic() - before < 10


def test_a_connection_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "TRY", "import time; time.sleep(60)")
    monkeypatch.setattr(ray_engine, "limits", lambda: LIMITS)
    with pytest.raises(UsageError, match="did not respond within 1 s"):
        check_address("auto")


LIMITS = ray_engine.RayLimits(**(vars(ray_engine.limits()) | {"connect_seconds": 1.0}))


def test_the_reason_of_ray_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "TRY", "import sys; sys.exit('a warning\\nno instance is running')")
    with pytest.raises(UsageError, match="no Ray cluster can be used there: no instance is running$"):
        check_address("auto")


def test_a_cluster_that_ends_after_the_check_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray, which installs a handler of its own
        raise ConnectionError("the head is gone")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    monkeypatch.setattr(ray_engine, "check_address", lambda _: None)
    before = signal.getsignal(signal.SIGTERM)
    message = "no Ray cluster can be used there: the head is gone"
    with pytest.raises(UsageError, match=message), ray_engine.connected("head:6379", None):
        pytest.fail("the block must not run")
    assert signal.getsignal(signal.SIGTERM) == before
