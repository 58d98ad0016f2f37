"""`redline show` and the texts that it prints."""

import json
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task

from redline._cli.main import execute
from redline._errors import ExitCode
from redline.catalog import scenarios
from redline.scenarios import texts
from redline.scenarios._prompts import add_folder, prompt, scenario_folders
from redline.scenarios.texts import LONGEST_PROMPT, prompts_of


def shown(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert execute(["show", name, "--json"]) == ExitCode.OK
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.slow
@pytest.mark.parametrize("name", scenarios())
def test_a_scenario_is_shown_with_its_factors_and_all_of_its_own_prompts(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = shown(name, capsys)
    assert document["summary"] == scenarios()[name].summary
    assert list(document["factors"]) == list(scenarios()[name].factors)
    assert all("default" in factor and "choices" in factor for factor in document["factors"].values())
    own = {path.name for path in (scenario_folders()[name] / "prompts").rglob("*.md")}
    assert {path.removeprefix(f"{name}/") for path in document["prompts"] if path.startswith(f"{name}/")} == own
    assert {"common/system.md", "tools/bash.md", "agents/fudan.md"} <= set(document["prompts"])


@pytest.mark.long
@pytest.mark.slow
def test_only_the_shared_prompts_that_an_arm_uses_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    asked, job = (shown(name, capsys)["prompts"] for name in ("self_replication", "shutdown_avoidance"))
    assert "common/rule.md" in asked and "common/job.md" not in asked
    assert {"common/rule.md", "common/job.md", "common/hint_path.md"} <= set(job)
    assert "common/rule.md" not in shown("benign", capsys)["prompts"]
    assert "common/hint_commands.md" not in shown("remote_copy", capsys)["prompts"]  # it has its own
    assert asked["common/rule.md"] == prompt("common/rule.md")


@pytest.mark.parametrize("columns", ["40", "80"])
def test_the_text_fits_the_terminal(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert execute(["show", "shutdown_avoidance"]) == ExitCode.OK
    printed = capsys.readouterr().out
    assert "settings: instructed, notice, none; default: instructed" in " ".join(printed.split())
    assert "\x1b" not in printed
    longest = max(printed.split("\n"), key=len)
    assert len(longest) <= int(columns) or len(longest.split()) == 1  # a word that is longer than a line


def test_an_unknown_scenario_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["show", "self_replicaton"]) == ExitCode.USAGE
    assert "did you mean 'self_replication'" in capsys.readouterr().err


def test_prompts_of_another_package_are_bounded_and_printable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> Task:
        raise RuntimeError("a fault in another package")

    monkeypatch.setattr("redline.scenarios._prompts._folders", {})
    add_folder("hostile", tmp_path)
    folder = tmp_path / "prompts"
    folder.mkdir()
    folder.joinpath("escape.md").write_bytes(b"<!-- remark -->\nred \x1b[31m \xff\xfe\n")
    folder.joinpath("long.md").write_text("x" * 10 * LONGEST_PROMPT)
    folder.joinpath("folder.md").mkdir()
    found = prompts_of("hostile", broken, {"trigger": ("a", "b")})
    assert found["hostile/escape.md"] == "red \ufffd[31m \ufffd\ufffd"
    assert len(found["hostile/long.md"]) == texts.LONGEST_PROMPT
    assert "hostile/folder.md" not in found
