"""Packages of redline that can also be called, since a public function has the same name.

`redline.run` is both the package that runs plans and the function of a script or notebook. The import system sets the
attribute `run` of `redline` to the package, so the package itself passes the call on.
"""

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package that calls the function of `redline.api` with the package's own name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the public function of this name; `redline.api` documents it."""
        return _function(self)(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of the function, for `help` and notebooks."""
        return inspect.signature(_function(self))


def make_callable(package: str) -> None:
    """Make a package callable; the package itself calls this at import."""
    sys.modules[package].__class__ = CallablePackage


def _function(package: ModuleType) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(import_module("redline.api"), package.__name__.rpartition(".")[2])
    return function
