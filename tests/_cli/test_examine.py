"""The doctor, on machines that lack things."""

import json
from pathlib import Path

import pytest

from redline import _providers
from redline._cli import _examine
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
def test_without_a_runtime_no_run_is_possible_and_every_gap_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["doctor", "--json"]) == ExitCode.USAGE
    found = findings(capsys)
    assert found["cells"]["state"] == "missing"
    assert found["crun"]["state"] == "optional"
    assert all(finding["fix"] for finding in found.values() if finding["state"] == "missing")


@pytest.mark.usefixtures("bare")
def test_the_command_to_type_is_the_package_tools_of_this_machine(tmp_path: Path) -> None:
    assert "install runc" in _examine.way_to_get("runc")
    (tmp_path / "dnf").write_text("")
    (tmp_path / "dnf").chmod(0o755)
    assert _examine.way_to_get("newuidmap") == "sudo dnf install shadow-utils"


@pytest.mark.usefixtures("bare")
def test_keys_are_told_by_the_names_of_their_variables_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "LOCAL_API_KEY", "LOCAL_BASE_URL"):
        monkeypatch.setenv(name, "secret-value")
    execute(["doctor"])
    printed = capsys.readouterr().out
    assert "openai (OPENAI_API_KEY)" in printed
    assert "openai-api/local (LOCAL_BASE_URL, LOCAL_API_KEY)" in printed
    assert "secret-value" not in printed


def test_a_runtime_that_fails_matters_only_where_no_other_works() -> None:
    failing = Finding("a cell on docker", "missing", "could not be made")
    assert _examine._beside(failing, []).state == "missing"
    assert _examine._beside(failing, ["runc"]).state == "optional"
    assert "--runtime runc" in _examine._beside(failing, ["runc"]).fix


def test_every_provider_that_is_named_is_one_of_inspects() -> None:
    from inspect_ai._util.registry import registry_find, registry_unqualified_name
    from inspect_ai.model._providers import providers as _  # noqa: F401 - to import them registers them

    known = {registry_unqualified_name(found) for found in registry_find(lambda info: info.type == "modelapi")}
    assert set(_providers.providers()) - {"redline", "llama-cpp"} <= known  # these two are redline's own
