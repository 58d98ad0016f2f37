"""Programs that run over a cell are composed of parts, which share one scope."""

import ast
from collections.abc import Iterator
from importlib.resources import files

import pytest

from redline.verify._limits import PARTS, program

PACKAGE = "redline.verify.programs."


def tree(part: str) -> ast.Module:
    return ast.parse(files("redline.verify").joinpath(f"programs/{part}.py").read_text(encoding="utf-8"))


def defined_in(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))


@pytest.mark.parametrize("name", PARTS)
def test_a_part_imports_only_from_parts_before_it(name: str) -> None:
    earlier: set[str] = set()
    for part in (*PARTS[name], name):
        modules = {node.module or "" for node in ast.walk(tree(part)) if isinstance(node, ast.ImportFrom)}
        assert {module.removeprefix(PACKAGE) for module in modules if module.startswith(PACKAGE)} <= earlier
        earlier.add(part)


@pytest.mark.parametrize("name", PARTS)
def test_no_name_is_defined_in_two_parts(name: str) -> None:
    names = [found for part in (*PARTS[name], name) for found in set(defined_in(tree(part))) - {"TYPE_CHECKING"}]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", ["census", "originals", "restart", "scorch"])
def test_a_program_imports_nothing_of_redline_when_it_runs(name: str) -> None:
    for node in ast.parse(program(name)).body:
        imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [module for module in imported if module.startswith("redline")]
