"""Load the programs that run in a cell, join one, or outlive the harness.

Such a program runs from one text with the standard library only. In the repository it is an ordinary module, which may
import from other programs of redline, such as the shared prelude. Loading it puts their texts in front of its own.
"""

import ast
import marshal
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.util import MAGIC_NUMBER

from redline._python_source import parse_python

FUTURE = "from __future__ import annotations\n"
PROGRAM_MODULE = re.compile(r"redline(\.\w+)*\.programs\.\w+")
UNCHECKED, HASH_BYTES = 1, 8
"""Header of byte code that is never compared with its source: PEP 552, deterministic pycs."""

REDEFINABLE = frozenset({"TYPE_CHECKING"})


class ProgramError(ValueError):
    """Raised when a program cannot be made into one text."""


@cache
def load_program(module: str) -> str:
    """Return the source text of a program, with everything that it imports from other programs.

    Args:
        module: Full name of its module, such as `redline.cell.programs.warden`.

    Raises:
        ProgramError: It imports something of redline that is not a program, or two joined programs define one name.
    """
    parts: dict[str, str] = {}
    _collect(module, parts)
    _require_distinct_names(parts)
    texts = [text if name == module else _without_entry_point(text) for name, text in parts.items()]
    return FUTURE + "\n\n".join(texts)


def compiled_program(module: str, byte_code: bytes) -> bytes:
    """Return a program as a file that an interpreter can run: byte code, which saves compiling it at each start.

    Args:
        module: Full name of its module.
        byte_code: The number with which files of byte code for the interpreter begin. If it is not that of this
            interpreter, the file is the program's text.
    """
    text = load_program(module)
    if byte_code != MAGIC_NUMBER:
        return text.encode()
    code = compile(text, module.rpartition(".")[2], "exec", dont_inherit=True)
    return MAGIC_NUMBER + UNCHECKED.to_bytes(4, "little") + bytes(HASH_BYTES) + marshal.dumps(code)


def load_library(module: str) -> str:
    """Return the text of a program without its entry point, to be extended or executed for its functions."""
    return _without_entry_point(load_program(module))


def _collect(module: str, parts: dict[str, str]) -> None:
    """Add a program to the parts, after the programs that it imports."""
    package, _, name = module.rpartition(".")
    text = files(package).joinpath(f"{name}.py").read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    for node in parse_python(text).body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        imported = list(_imports_from_redline(module, node))
        if imported or _is_future(node):
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = "\n"
        for other in imported:
            if other not in parts:
                _collect(other, parts)
    parts[module] = "".join(lines)


def _imports_from_redline(module: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."]
    for name in names:
        if name.split(".")[0] not in ("redline", ""):
            continue
        renamed = any(alias.asname or alias.name == "*" for alias in node.names)
        if isinstance(node, ast.Import) or node.level or renamed or not PROGRAM_MODULE.fullmatch(name):
            raise ProgramError(f"{module} line {node.lineno}: import names from another program, unrenamed")
        yield name


def _is_future(node: ast.Import | ast.ImportFrom) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _without_entry_point(text: str) -> str:
    return text.partition('\nif __name__ == "__main__":\n')[0] + "\n"


def _require_distinct_names(parts: dict[str, str]) -> None:
    owners: dict[str, str] = {}
    for module, text in parts.items():
        for name in _defined_names(text) - REDEFINABLE:
            if name in owners:
                raise ProgramError(f"{module} and {owners[name]} both define {name}")
            owners[name] = module


def _defined_names(text: str) -> set[str]:
    found: set[str] = set()
    for node in parse_python(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
    return found
