"""Data flows down the way of a trial and never back up: a module imports only from what stands before it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import redline

ROOT = Path(redline.__file__).parent

LAYERS = (
    ("_base", "_bounds", "_budget", "_endings", "_errors", "_tasks", "_text", "_names", "_providers", "_records"),
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
    ("stats",),
    ("catalog",),
    ("plan",),
    ("plan_file",),
    ("results",),
    ("run",),
    ("report",),
    ("api", "schemas"),
    ("_cli",),
    ("__main__", "_registry"),
)
PLACE = {name: place for place, names in enumerate(LAYERS) for name in names}

# Programs that run inside a cell or joined to one: they are copied as text and may import nothing of ours at all.
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> Iterator[str]:
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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_what_stands_before_it(path: Path) -> None:
    own = PLACE[room(path)]
    late = {other for other in imported_rooms(path) if PLACE[other] > own}
    assert not late


def test_every_room_has_its_place() -> None:
    assert {room(path) for path in MODULES} <= set(PLACE)


def test_an_import_against_the_flow_is_seen(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def late():\n    from redline.report import print_table\n    import redline.cell.cell\n")
    assert set(imported_rooms(module)) == {"report", "cell"}
