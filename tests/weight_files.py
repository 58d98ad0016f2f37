"""The files of a model, outside of any cell."""

from pathlib import Path

from redline.subject import Weights
from redline.subject.weights import WeightFile


def content_of(weights: Weights, file: WeightFile) -> bytes:
    """Return the whole content of a file."""
    return b"".join(
        bytes(part) for parts in (weights.header_parts(file), weights.data_parts(file)) for _, part in parts
    )


def write_weights(weights: Weights, folder: Path) -> Path:
    """Write a model as files into a new folder; return the folder."""
    folder.mkdir()
    for file in weights.files():
        (folder / file.name).write_bytes(content_of(weights, file))
    return folder
