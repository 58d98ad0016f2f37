"""A runtime that another package registers: it is chosen, described and used like a built-in one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from redline._cli import _host_checks
from redline._cli._runtime import as_runtime
from redline._errors import UsageError
from redline.cell import CellConfig, config, open_cell
from redline.cell import open as opening
from redline.cell.open import DEFAULT_VARIABLE, choose_runtime, every_runtime, traits_of
from redline.run.models import max_cells
from redline.seal import quick_seal
from redline.seal.report import not_protected

PACKAGE = """
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from redline.cell.oci.host_kernel import HostKernelRuntime, Runc


@dataclass(frozen=True)
class Other(HostKernelRuntime):
    traits: ClassVar = replace(
        Runc.traits, name="other-runc", how_to_install="install the other runc", cells_per_cpu=1,
        not_protected=("a risk of its own",),
    )

    @classmethod
    def find(cls):
        program = shutil.which("runc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        return None if program is None else cls(Path(program), "1.0")


class NoRuntime:
    pass
"""


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Install a package that registers one runtime and four objects or names that are refused; return its name."""
    (tmp_path / "other_runtime.py").write_text(PACKAGE)
    metadata = tmp_path / "other_runtime-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other-runtime\nVersion: 1.0\n")
    entries = {
        "other-runc": "other_runtime:Other",
        "broken": "other_runtime:Missing",
        "no-runtime": "other_runtime:NoRuntime",
        "../escape": "other_runtime:Other",
        "runsc": "other_runtime:Other",
    }
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[redline.runtimes]", *lines]))
    monkeypatch.syspath_prepend(str(tmp_path))
    _forget()
    yield "other-runc"
    sys.modules.pop("other_runtime", None)
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    config.runtime_names.cache_clear()
    opening.runtime_class.cache_clear()


def test_it_is_chosen_by_its_name_and_never_by_auto(registered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEFAULT_VARIABLE, raising=False)
    assert CellConfig(runtime=registered).runtime == as_runtime(registered) == registered
    assert choose_runtime(registered).name == registered
    assert choose_runtime("auto").name in opening.BUILT_IN
    monkeypatch.setenv(DEFAULT_VARIABLE, registered)
    assert choose_runtime("auto").name == registered


def test_it_is_described_by_its_traits(registered: str) -> None:
    assert registered in [kind.traits.name for kind in every_runtime()]
    assert _host_checks.install_command(registered) == "install the other runc"
    assert "a risk of its own" in not_protected(registered)
    assert not traits_of(registered).runs_models_by_default
    assert max_cells(registered, []) < max_cells("runc", [])


@pytest.mark.anyio
@pytest.mark.cell
async def test_it_makes_cells_whose_seal_is_proved(registered: str) -> None:
    async with open_cell(CellConfig(runtime=registered)) as cell:
        assert cell.runtime == registered
        assert (await cell.exec(["id", "-u"])).stdout == b"1000\n"
        report = await quick_seal(cell)
    assert report.verified and report.runtime == registered


@pytest.mark.parametrize("name", ["broken", "no-runtime"])
@pytest.mark.usefixtures("registered")
def test_a_registered_object_that_is_no_runtime_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        choose_runtime(name)
    assert name not in [kind.traits.name for kind in every_runtime()]


@pytest.mark.usefixtures("registered")
def test_a_name_outside_the_pattern_is_refused_and_a_built_in_runtime_is_not_replaced() -> None:
    with pytest.raises(ValidationError):
        CellConfig(runtime="../escape")
    assert traits_of("runsc").own_kernel


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="'auto', 'runsc', 'runc', 'crun' or 'docker'"):
        CellConfig(runtime="other-runc")
