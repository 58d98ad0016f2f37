"""Programs that run over a cell are one text, which imports nothing of redline."""

import ast

import pytest

from redline.cell.load import load_program


@pytest.mark.parametrize("name", ["census", "originals", "restart", "scorch"])
def test_a_program_imports_nothing_of_redline_when_it_runs(name: str) -> None:
    for node in ast.parse(load_program(f"redline.verify.programs.{name}")).body:
        imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [module for module in imported if module.startswith("redline")]


GIVEN = {"openat2_in_root", "join_namespace", "cell_processes"}
"""Functions that a joined program gets, and that differ between the outside of a cell and its inside."""


@pytest.mark.parametrize("name", ["census", "originals", "restart", "scorch"])
def test_no_function_is_redefined_that_is_different_inside_a_cell(name: str) -> None:
    """gVisor has no openat2: a program that brought its own would open nothing there, and find nothing."""
    text = load_program(f"redline.verify.programs.{name}")
    defined = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    assert not GIVEN & defined & used
