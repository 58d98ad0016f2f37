"""The public API: every name that docs/api.md lists is importable from `redline.api`, and nothing loads early."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import redline
from redline import api

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")
LISTED = re.findall(r"^::: redline\.api\.(\w+)$", PAGE, re.MULTILINE)
PRIVATE_IMPORT = re.compile(r"^\s*(?:from|import) redline\.(?:\w+\.)*_\w+", re.MULTILINE)


def test_docs_list_exactly_the_public_names() -> None:
    assert sorted(LISTED) == sorted(api.__all__)


@pytest.mark.parametrize("name", LISTED)
def test_every_listed_name_is_importable(name: str) -> None:
    assert getattr(api, name) is not None


def test_type_checkers_and_runtime_see_the_same_names_from_the_same_modules() -> None:
    tree = ast.parse(Path(api.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name)]
    typed = {
        (node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    lazy = {(module, name) for module, names in api._EXPORTS.items() for name in names}
    assert typed == lazy
    assert sorted(name for _, name in lazy) == sorted(api.__all__)


def test_a_public_name_is_the_object_that_its_module_defines() -> None:
    for module, names in api._EXPORTS.items():
        for name in names:
            assert getattr(api, name) is getattr(import_module(module), name)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"module 'redline\.api' has no attribute 'nothing'"):
        _ = api.nothing  # type: ignore[attr-defined]  # that it is missing is the test
    assert set(api.__all__) <= set(dir(api))


def test_importing_the_api_loads_neither_inspect_nor_scipy() -> None:
    program = "import sys, redline.api; print(sorted({'inspect_ai', 'scipy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_package_loads_almost_nothing() -> None:
    slow = "{'inspect_ai', 'scipy', 'pydantic', 'pandas', 'redline.api', 'importlib.metadata'}"
    program = f"import sys, redline; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.long
def test_pandas_is_not_loaded_by_running_or_loading() -> None:
    program = "import sys, redline.analysis; print(sorted({'pandas', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.long
@pytest.mark.parametrize("name", ["run", "verify"])
@pytest.mark.parametrize(
    "first", ["import redline", "import redline.{0}", "from redline import {0}", "import redline.api"]
)
def test_a_package_with_the_name_of_a_function_can_be_called(name: str, first: str) -> None:
    """Whatever is imported first, the name is the package, and a call reaches the function."""
    program = (
        f"{first.format(name)}\nimport inspect, redline, types, redline.api\n"
        f"assert isinstance(redline.{name}, types.ModuleType)\n"
        f"assert inspect.signature(redline.{name}) == inspect.signature(redline.api.{name})\n"
        f"try:\n    redline.{name}('nothing')\nexcept redline.api.UsageError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip()


def test_the_package_names_its_public_functions() -> None:
    assert {"run", "load", "verify", "compare", "__version__"} == set(redline.__all__) <= set(dir(redline))
    for name in ("load", "compare"):
        assert getattr(redline, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="module 'redline' has no attribute 'nothing'"):
        _ = redline.nothing  # type: ignore[attr-defined]  # that it is missing is the test


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_no_page_of_the_docs_imports_a_private_module(page: Path) -> None:
    assert not PRIVATE_IMPORT.findall(page.read_text(encoding="utf-8"))
