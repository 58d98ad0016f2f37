"""What a run records of a model that redline served itself."""

import hashlib
from pathlib import Path

from pydantic import Field

from redline._base import Frozen

BLOCK = 1 << 22


class ServedModel(Frozen):
    """A model file and the server that redline started for it."""

    model: str
    """The model, as the results name it."""
    file: str
    """Name of its GGUF file; of the first, where it is split."""
    size: int = Field(ge=0)
    """Bytes of the file, or of all its parts."""
    sha256: str
    """SHA-256 of the file, or of all its parts, one after the other."""
    architecture: str
    """Its architecture, as the file says."""
    quantisation: str | None
    """Type of most of its weights, as the server says."""
    context: int | None
    """Tokens of context that a conversation can have, as the server says."""
    trained_context: int | None
    """Tokens of context that the model was trained with, as the file says."""
    slots: int = Field(ge=1)
    """Requests that the server answers at once."""
    chat_template_sha256: str | None
    """SHA-256 of the file's chat template; null where it has none."""
    server: str
    """Server program and its version."""
    sampling: dict[str, int | float]
    """How the server samples where a request does not say; a seed of 4294967295 is a new one each time."""
    max_tokens: int
    """Tokens of one answer, where the run does not say."""


def sha256_of(paths: tuple[Path, ...]) -> str:
    """Return the SHA-256 of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()
