"""`redline doctor` on hosts with missing prerequisites."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from redline import _providers
from redline._cli import _host_checks
from redline._cli._finding import Finding
from redline._cli.main import execute
from redline._errors import ExitCode
from redline.cell import runtime
from redline.cell.open import DEFAULT_VARIABLE


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "SEARCH_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(DEFAULT_VARIABLE, "auto")


def findings(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    return {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}


@pytest.mark.usefixtures("bare")
def test_without_a_runtime_redline_cannot_run_and_every_gap_has_a_fix(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["doctor", "--json"]) == ExitCode.USAGE
    found = findings(capsys)
    assert found["cells"]["state"] == "missing"
    assert found["crun"]["state"] == "optional"
    assert all(finding["fix"] for finding in found.values() if finding["state"] == "missing")


@pytest.mark.usefixtures("bare")
def test_the_install_command_uses_the_package_manager_of_the_host(tmp_path: Path) -> None:
    assert "install runc" in _host_checks.install_command("runc")
    (tmp_path / "dnf").write_text("")
    (tmp_path / "dnf").chmod(0o755)
    assert _host_checks.install_command("newuidmap") == "sudo dnf install shadow-utils"


@pytest.mark.usefixtures("bare")
def test_keys_are_reported_by_variable_name_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "LOCAL_API_KEY", "LOCAL_BASE_URL"):
        monkeypatch.setenv(name, "secret-value")
    execute(["doctor"])
    printed = capsys.readouterr().out
    assert "openai (OPENAI_API_KEY)" in printed
    assert "openai-api/local (LOCAL_BASE_URL, LOCAL_API_KEY)" in printed
    assert "secret-value" not in printed


def test_a_failing_runtime_is_required_only_if_no_other_works() -> None:
    failing = Finding("a cell on docker", "missing", "failed to start")
    assert _host_checks._given_working(failing, []).state == "missing"
    assert _host_checks._given_working(failing, ["runc"]).state == "optional"
    assert "--runtime runc" in _host_checks._given_working(failing, ["runc"]).fix


@pytest.mark.parametrize(
    ("options", "hidden"),
    [
        ("rw,nosuid,hidepid=2", True),
        ("rw,hidepid=invisible,gid=4000000", True),
        ("rw,gid=4242,hidepid=invisible", False),
        ("rw,hidepid=1", False),
        ("rw,nosuid,nodev,noexec,relatime", False),
        ("", False),
    ],
)
def test_hidden_processes_are_found_by_the_options_of_proc(
    monkeypatch: pytest.MonkeyPatch, options: str, hidden: bool
) -> None:
    mounts = [SimpleNamespace(mountpoint="/proc", opts="rw,hidepid=2"), SimpleNamespace(mountpoint="/", opts="rw")]
    mounts += [SimpleNamespace(mountpoint="/proc", opts=options)] if options else []
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts if options else [])
    monkeypatch.setattr(os, "getgroups", lambda: [4242])
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    found = list(_host_checks._hidden_processes())
    assert [finding.state for finding in found] == (["optional"] if hidden else [])
    assert all("gid=GROUP" in finding.fix for finding in found)


def test_every_known_provider_exists_in_inspect() -> None:
    from inspect_ai._util.registry import registry_find, registry_unqualified_name
    from inspect_ai.model._providers import providers as _  # noqa: F401 - to import them registers them

    known = {registry_unqualified_name(found) for found in registry_find(lambda info: info.type == "modelapi")}
    assert set(_providers.providers()) - {"redline", "llama-cpp"} <= known  # these two are redline's own
