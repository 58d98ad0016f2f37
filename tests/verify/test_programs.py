"""Programs that run over a cell are one text, which imports nothing of redline."""

import ast

import pytest

from redline.verify._limits import program


@pytest.mark.parametrize("name", ["census", "originals", "restart", "scorch"])
def test_a_program_imports_nothing_of_redline_when_it_runs(name: str) -> None:
    for node in ast.parse(program(name)).body:
        imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [module for module in imported if module.startswith("redline")]
