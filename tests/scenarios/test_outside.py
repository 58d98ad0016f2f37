"""A scenario from outside the package: the example of docs/adding.md, installed as a package of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from inspect_ai import Task

from redline._errors import ExitCode, UsageError
from redline.scenarios import DECLARATIONS, SCENARIOS
from redline.scenarios._arm import Arm, Common
from redline.scenarios._declaration import register
from redline.scenarios._scenario import arm_of

ROOT = Path(__file__).parents[2]
NAME = "upkeep"
"""Name of the scenario, other than in the guide, so that the guide can be followed in this very repository."""
FILES = re.compile(r'^```\w+ title="(?P<path>[^"]+)"\n(?P<content>.*?)^```$', re.MULTILINE | re.DOTALL)
FAULTS = """
import json
from redline.scenarios.statements import faults_of_texts, statements, texts
from redline.seal import PROBE_NAMES
print(json.dumps(list(faults_of_texts(statements(), texts(), PROBE_NAMES))))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the example's files and the metadata of an installed package."""
    site = tmp_path / "site"
    example = (ROOT / "docs/adding.md").read_text(encoding="utf-8").replace("maintenance", NAME)
    for file in FILES.finditer(example):
        if not file["path"].startswith(f"{NAME}/"):
            continue
        path = site / file["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["content"], encoding="utf-8")
    metadata = site / f"{NAME}-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text(f"[redline.scenarios]\n{NAME} = {NAME}\n")
    return site


def run_python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(site), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def python(site: Path, *arguments: str) -> str:
    done = run_python(site, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_the_example_of_the_documentation_is_listed_with_its_factors(site: Path) -> None:
    listed = json.loads(python(site, "-m", "redline", "list", "scenarios", "--json"))["scenarios"]
    assert set(listed) == {*SCENARIOS, NAME}
    assert listed[NAME]["summary"].startswith("Ask the agent for a working copy")
    assert listed[NAME]["factors"]["minutes"]["default"] == 10
    assert "wording" not in listed[NAME]["factors"]


@pytest.mark.long
def test_a_claim_of_its_prompts_needs_a_statement_in_its_own_folder(site: Path) -> None:
    assert json.loads(python(site, "-c", FAULTS)) == []
    (site / NAME / "statements.toml").unlink()
    (fault,) = json.loads(python(site, "-c", FAULTS))
    assert f"prompts/{NAME}/brief.md mentions 'Linux'" in fault
    assert f"{NAME}/statements.toml" in fault


@pytest.mark.long
def test_guardrails_and_controls_know_what_it_declares(site: Path) -> None:
    code = (
        "from redline.controls import truth_of; from redline.run.guarding import ATTACKS\n"
        f"assert dict(ATTACKS[{NAME!r}]) == {{}}\n"
        f"assert truth_of({NAME!r}, 'redline/replicator', {{}}).measures == {{'working_agents': 1}}\n"
        f"assert truth_of({NAME!r}, 'redline/refuser', {{}}).outcomes == ('refused',)\n"
    )
    python(site, "-c", code)


@pytest.mark.long
@pytest.mark.cell
def test_a_trial_of_it_runs_and_is_verified_again_from_its_evidence(site: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = ["--model", "redline/replicator", "--trials", "1", "--runtime", "runc", "--hold", "1"]
    python(site, "-m", "tests.sealed", "run", NAME, *settings, "-T", "weights=1MiB", "--out", str(out))
    results: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    (trial,) = results["trials"]
    assert (trial["scenario"], trial["outcome"]) == (NAME, "replicated")
    assert trial["measures"]["working_agents"] == 1
    python(site, "-m", "redline", "verify", str(out))


def test_two_folders_with_a_scenario_of_the_same_name_are_refused(tmp_path: Path) -> None:

    with pytest.raises(UsageError, match=r"scenario benign is defined in .* and in .*: rename one of them"):
        register(replace(DECLARATIONS["benign"], folder=tmp_path))


@pytest.mark.long
def test_a_package_whose_scenario_cannot_be_imported_is_named_in_one_line(site: Path) -> None:
    (site / NAME / "__init__.py").write_text("import no_such_module\n")
    done = run_python(site, "-m", "redline", "list", "scenarios")
    assert done.returncode == ExitCode.USAGE
    assert f"scenario {NAME} ({NAME}) cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_function_that_describes_an_arm_of_another_scenario_is_refused() -> None:
    def other(common: Common) -> Arm:
        return Arm(scenario="benign", factors={}, instructed=False, brief=lambda seed: "")

    task = SimpleNamespace(describe_arm=other)
    with pytest.raises(ValueError, match="the function other describes an arm of benign"):
        arm_of(cast(Callable[..., Task], task))
