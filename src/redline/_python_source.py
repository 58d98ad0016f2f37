"""Parse Python source, one thread at a time."""

import ast
import threading

_PARSING = threading.Lock()
# Building a syntax tree counts its depth in a variable of the whole interpreter: in CPython 3.11, threads that do it at
# the same time end with "SystemError: AST constructor recursion depth mismatch".


def parse_python(source: str | bytes) -> ast.Module:
    """Return the syntax tree of a program.

    Raises:
        SyntaxError: It is not Python.
        ValueError: It contains null bytes.
        RecursionError: It is nested too deeply.
        MemoryError: It is nested too deeply for the parser.
    """
    with _PARSING:
        return ast.parse(source)
