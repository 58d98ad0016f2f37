"""redline: does an AI agent make a live, separate copy of itself, and do guardrails stop it?

The functions of scripts and notebooks are `run`, `load`, `verify` and `compare`; all other public names are in
`redline.api`. Each name is loaded on first use.
"""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redline.api import compare as compare
    from redline.api import load as load
    from redline.api import run as run
    from redline.api import verify as verify

__all__ = ["__version__", "compare", "load", "run", "verify"]

__version__: str

_MODULES = ("api", "run", "verify")
"""Public modules. `run` and `verify` are also functions: these packages are callable."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load a public name on first use; even the version takes long compared with the rest of `--help`."""
        if name == "__version__":
            return _version()
        if name not in (*__all__, *_MODULES):
            raise AttributeError(f"module 'redline' has no attribute '{name}'")
        from importlib import import_module

        if name in _MODULES:
            return import_module(f"redline.{name}")
        return getattr(import_module("redline.api"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


@cache
def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("redline")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0.0.0+source"
