"""IDs of trials, which are also the names of their evidence files."""

import hashlib
import re
from collections.abc import Iterable

from redline._errors import UsageError

MAX_NAME, DIGITS = 180, 12
"""Limit for IDs, since a model's name can be a path. File systems allow 255 bytes, and temporary files need some."""

UNSAFE_IN_NAMES = re.compile(r"[^A-Za-z0-9._=-]+")


def trial_id(sample: str | int, model: str) -> str:
    """Return an ID that is unique in the run and valid as a file name."""
    name = f"{UNSAFE_IN_NAMES.sub('_', str(sample))}-{UNSAFE_IN_NAMES.sub('_', model)}"
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(f"{sample} {model}".encode()).hexdigest()[:DIGITS]
    return f"{name[: MAX_NAME - DIGITS - 1]}-{digest}"


def refuse_same_names(labels: Iterable[str]) -> None:
    """Refuse models whose trials would have the same IDs: their evidence files would overwrite each other.

    Raises:
        UsageError: Two models have the same name in IDs.
    """
    seen: dict[str, str] = {}
    for label in labels:
        duplicate = seen.setdefault(trial_id("", label), label)
        if duplicate != label:
            raise UsageError(f"the files of {duplicate} and {label} would have the same names: run them separately")
