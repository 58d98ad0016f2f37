"""Base class of the frozen models, and the reader of the package's data files."""

import tomllib
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable model without extra fields. Attribute docstrings become the descriptions in its JSON Schema.

    `redline.schemas` reads them when it generates a schema. Pydantic would read each model's source code on import.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def read_toml(package: str, name: str) -> dict[str, Any]:
    """Return the content of a TOML file of a package.

    Args:
        package: Dotted name of the package, such as `redline.verify`.
        name: Path of the file below the package, such as `data/limits.toml`.
    """
    return tomllib.loads(files(package).joinpath(name).read_text(encoding="utf-8"))
