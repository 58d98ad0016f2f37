"""Base of the frozen models, and the one way to read a data file of the package."""

import tomllib
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value that does not change, with no field beyond those declared. Attribute docstrings describe its schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)


def read_toml(package: str, name: str) -> dict[str, Any]:
    """Return the content of a TOML file of a package.

    Args:
        package: Dotted name of the package, such as `redline.verify`.
        name: Path of the file below the package, such as `data/limits.toml`.
    """
    return tomllib.loads(files(package).joinpath(name).read_text(encoding="utf-8"))
