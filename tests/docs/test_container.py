"""The recipes for containers and GitHub Actions name only files, options and plans that exist."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from redline._cli import main

ROOT = Path(__file__).parents[2]
ENTRYPOINT = ROOT / "scripts" / "container-entrypoint"
PAGE = (ROOT / "docs" / "platforms.md").read_text()


def workflow() -> Any:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    return yaml.safe_load(block)


def test_every_file_that_the_image_copies_exists() -> None:
    copied = [line.split()[1:-1] for line in (ROOT / "Dockerfile").read_text().split("\n") if line.startswith("COPY ")]
    assert copied
    for name in (name for names in copied for name in names):
        assert (ROOT / name).exists(), name


def test_the_image_does_not_contain_keys_results_or_history() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".env", ".git", "out", ".venv"} <= set(ignored)


def test_the_container_of_the_compose_file_can_make_cells() -> None:
    (service,) = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    assert service["privileged"] and service["cgroup"] == "private"
    assert set(service) == {"build", "privileged", "cgroup", "env_file", "volumes"}


def test_the_development_container_uses_the_same_image() -> None:
    settings = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert (ROOT / ".devcontainer" / settings["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert "--privileged" in settings["runArgs"] and "--cgroupns=private" in settings["runArgs"]
    assert settings["postStartCommand"].split()[0] == "scripts/container-entrypoint"


def command_lines() -> Iterator[list[str]]:
    """Yield the arguments of redline in the examples of the page and of the workflow."""
    for line in re.findall(r"docker compose run --rm redline (.*)", PAGE):
        yield shlex.split(line)
    for step in workflow()["jobs"]["plan"]["steps"]:
        if ".venv/bin/redline" in step.get("run", ""):
            yield shlex.split(step["run"].partition("redline ")[2])


def test_the_command_lines_have_existing_commands_and_options() -> None:
    lines = list(command_lines())
    assert len(lines) == 3
    program: Any = typer.main.get_command(main.app)
    for name, *arguments in lines:
        command = program.commands[name]
        command.make_context(name, arguments)
        for argument in arguments:
            if argument.endswith(".yaml"):
                assert (ROOT / "src" / "redline" / "plans" / argument).exists()


def test_the_workflow_keeps_the_folder_of_the_run() -> None:
    steps = workflow()["jobs"]["plan"]["steps"]
    (run,) = [step["run"] for step in steps if "--out" in step.get("run", "")]
    assert steps[-1]["with"]["path"] == run.split("--out ")[1]
    assert steps[-1]["if"] == "always()"


def entrypoint(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", ENTRYPOINT, *command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "CGROUP_ROOT": str(root)},
    )


def test_the_entry_point_moves_processes_and_passes_controllers_on(tmp_path: Path) -> None:
    for name, content in {"cgroup.controllers": "cpu\n", "cgroup.subtree_control": "", "cgroup.procs": "17\n"}.items():
        (tmp_path / name).write_text(content)
    done = entrypoint(tmp_path, "sh", "-c", "echo $0 $1; exit 7", "a b", "c")
    assert (done.returncode, done.stdout, done.stderr) == (7, "a b c\n", "")
    assert (tmp_path / "harness" / "cgroup.procs").read_text() == "17\n"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu\n"


@pytest.mark.parametrize("files", [(), ("cgroup.controllers",)], ids=["version 1", "incomplete"])
def test_the_entry_point_leaves_other_hierarchies_alone(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        (tmp_path / name).write_text("cpu\n")
    done = entrypoint(tmp_path, "true")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "harness").exists()
