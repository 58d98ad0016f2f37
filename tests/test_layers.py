"""The structure of the package: layers, import cycles, and the size of modules and folders.

A module imports only from its own layer and from earlier ones.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import redline

ROOT = Path(redline.__file__).parent

LAYERS = (
    (
        "_base",
        "_bounds",
        "_budget",
        "_callable",
        "_endings",
        "_errors",
        "_memory",
        "_python_source",
        "_tasks",
        "_text",
        "_names",
        "_providers",
        "_records",
        "_supervised",
    ),
    ("stats",),
    ("models",),
    ("cell",),
    ("seal",),
    ("subject",),
    ("tether",),
    ("verify",),
    ("agents",),
    ("guardrails",),
    ("scenarios",),
    ("controls",),
    ("catalog",),
    ("plan",),
    ("plan_file",),
    ("results",),
    ("run",),
    ("report",),
    ("analysis",),
    ("api", "schemas"),
    ("_cli",),
    ("__main__", "_registry", "tasks"),
)
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}

MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")

MAX_LINES = 450
MAX_SHARE = 0.2
"""Maximum share of one folder in the lines of the package."""


def component(path: Path) -> str:
    """Return the folder or root module that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    """Return the full name of a module; of a package for its `__init__.py`."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, known: Mapping[str, Path]) -> set[str]:
    """Return the modules of redline that a module imports, inside functions and `TYPE_CHECKING` blocks too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in known else node.module or "")
    return {name for name in found if name in known}


def imported_components(path: Path) -> Iterator[str]:
    """Yield the folders and root modules that a module imports from."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "redline" else []
            names += [node.module] if node.module and node.module.startswith("redline.") else []
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "redline" and len(parts) > 1 and not parts[1].startswith("__version"):
                yield parts[1]


def cycle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the modules of one import cycle, first and last the same; none if there is no cycle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def lines_of(path: Path) -> int:
    """Return the number of lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_its_layer_and_earlier_ones(path: Path) -> None:
    own = LAYER_OF[component(path)]
    late = {other for other in imported_components(path) if LAYER_OF[other] > own}
    assert not late


def test_every_component_has_a_layer() -> None:
    assert {component(path) for path in MODULES} == set(LAYER_OF)


def test_the_seal_is_above_the_cell_and_below_the_subject() -> None:
    assert LAYER_OF["cell"] < LAYER_OF["seal"] < LAYER_OF["subject"]


def test_an_import_from_a_later_layer_is_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def late():\n    from redline.report import print_table\n    import redline.cell.cell\n")
    assert set(imported_components(module)) == {"report", "cell"}


@pytest.mark.slow
def test_no_modules_import_each_other_in_a_cycle() -> None:
    known = {module_of(path): path for path in ROOT.rglob("*.py")}
    graph = {name: imported_modules(path, known) - {name, "redline"} for name, path in known.items()}
    assert not cycle_in(graph)


def test_a_cycle_by_an_import_for_types_or_in_a_function_is_found(tmp_path: Path) -> None:
    known = {name: tmp_path / f"{name}.py" for name in ("redline.a", "redline.b", "redline.c")}
    known["redline.a"].write_text("from redline import b\n")
    known["redline.b"].write_text("import typing\nif typing.TYPE_CHECKING:\n    from redline.c import thing\n")
    known["redline.c"].write_text("def late():\n    import redline.a\n")
    graph = {name: imported_modules(path, known) for name, path in known.items()}
    assert set(cycle_in(graph)) == set(known)
    graph["redline.c"].clear()
    assert not cycle_in(graph)


def test_no_folder_holds_a_large_share_of_the_package() -> None:
    lines: dict[str, int] = {}
    for path in MODULES:
        lines[component(path)] = lines.get(component(path), 0) + lines_of(path)
    largest = max(lines, key=lambda name: lines[name])
    assert lines[largest] < MAX_SHARE * sum(lines.values()), largest


def test_no_module_is_too_long() -> None:
    long = {str(path.relative_to(ROOT)) for path in MODULES if lines_of(path) > MAX_LINES}
    assert not long, "split these modules"
