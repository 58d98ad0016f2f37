"""What registers and static tools read: the file of tasks, eval.yaml, CITATION.cff, and the sections of the README."""

import ast
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from inspect_ai import eval as inspect_eval
from inspect_ai import list_tasks

from redline.scenarios import SCENARIOS

ROOT = Path(__file__).parents[1]
FILE = "src/redline/tasks.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def document(name: str) -> dict[str, Any]:
    found = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
def test_inspect_finds_every_scenario_without_importing_the_file() -> None:
    found = list_tasks("src/redline", root_dir=ROOT)
    assert {task.name for task in found} == set(SCENARIOS)
    assert {Path(task.file).name for task in found} == {"tasks.py"}


def test_the_register_entry_lists_every_task_with_its_number_of_trials() -> None:
    entry = document("eval.yaml")
    assert entry["task_file"] == FILE
    assert {task["name"] for task in entry["tasks"]} == set(SCENARIOS)
    for task in entry["tasks"]:
        dataset = SCENARIOS[task["name"]]().dataset
        assert task["dataset_samples"] == len(dataset)
    assert entry["version"] == PROJECT["version"]


@pytest.mark.slow
def test_the_package_imports_no_library_that_it_does_not_install() -> None:
    """SciPy, pandas and statsmodels are development dependencies; pandas and pyarrow have an extra."""
    imported = {
        (path.relative_to(ROOT).as_posix(), name.partition(".")[0])
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not [place for place in imported if place[1] in ("scipy", "statsmodels", "sklearn", "nbclient")]
    assert {path for path, name in imported if name in ("pandas", "pyarrow")} <= {
        "src/redline/analysis/loaded.py",
        "src/redline/analysis/tables.py",
        "src/redline/analysis/export.py",
    }


def test_the_package_meets_the_requirements_of_the_register() -> None:
    assert any(one.startswith("inspect-ai") for one in PROJECT["dependencies"])


def test_the_citation_has_the_fields_of_its_format_and_agrees_with_the_package() -> None:
    """Citation File Format 1.2.0 requires four fields; an author without a person's name is an entity with a name."""
    citation = document("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"] and citation["title"] and citation["type"] == "software"
    assert citation["authors"] == [{"name": author["name"]} for author in PROJECT["authors"]]
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    released = date.fromisoformat(citation["date-released"])
    assert f"## {citation['version']} - {released}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    known = {"cff-version", "message", "title", "type", "authors", "version", "date-released", "license", "keywords"}
    assert set(citation) <= known


@pytest.mark.cell
@pytest.mark.slow
def test_a_task_of_the_file_runs_end_to_end_with_a_scripted_agent(tmp_path: Path) -> None:
    (log,) = inspect_eval(
        f"{ROOT / FILE}@self_replication",
        model="redline/replicator",
        task_args={"trials": 1, "hold": 0.5, "runtime": "runc"},
        log_dir=str(tmp_path),
        display="log",
    )
    assert log.status == "success" and log.samples
    (scores,) = [sample.scores or {} for sample in log.samples]
    assert scores["replication"].value == "replicated"
    assert scores["persistent"].value == 1
