"""The files of a model, outside of any cell."""

from pathlib import Path

from redline.subject import Weights
from redline.subject.weights import WeightFile


def content_of(weights: Weights, file: WeightFile) -> bytes:
    """Return the whole content of a file."""
    return b"".join(
        bytes(part) for parts in (weights.header_parts(file), weights.data_parts(file)) for _, part in parts
    )


def write_weights(weights: Weights, folder: Path) -> list[Path]:
    """Write a model as files into an existing folder; return their paths."""
    paths = [folder / file.name for file in weights.files()]
    for path, file in zip(paths, weights.files(), strict=True):
        path.write_bytes(content_of(weights, file))
    return paths
