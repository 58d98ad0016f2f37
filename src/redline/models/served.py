"""The record of a model that redline served itself, as stored with a run."""

import hashlib
from pathlib import Path

from pydantic import Field

from redline._base import Frozen

BLOCK = 1 << 22


class ServedModel(Frozen):
    """A model file and the server that redline started for it."""

    model: str
    """The model's name in the results."""
    file: str
    """Name of its GGUF file, or of the first part if it is split."""
    size: int = Field(ge=0)
    """Size of the file or of all its parts, in bytes."""
    sha256: str
    """SHA-256 of the file or of its concatenated parts."""
    architecture: str
    """Architecture as given in the file."""
    quantisation: str | None
    """Type of most of its weights, as reported by the server."""
    context: int | None
    """Context length of a conversation in tokens, as reported by the server."""
    trained_context: int | None
    """Context length of the training in tokens, as given in the file."""
    slots: int = Field(ge=1)
    """Requests answered in parallel."""
    chat_template_sha256: str | None
    """SHA-256 of the file's chat template; null if it has none."""
    server: str
    """Server program and its version."""
    sampling: dict[str, int | float]
    """Default sampling settings of the server. A seed of 4294967295 means a new seed for each request."""
    max_tokens: int
    """Default limit of one answer, in tokens."""


def sha256_of(paths: tuple[Path, ...]) -> str:
    """Return the SHA-256 of the concatenated files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()
