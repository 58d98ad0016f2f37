"""Prompt texts of a run, stored in its folder by their hashes."""

import json
from collections.abc import Mapping

from pydantic import TypeAdapter

from redline._errors import EvidenceError
from redline._names import one_line
from redline._records import strict_json
from redline.run.folder import RunFolder, write_text

_TEXTS = TypeAdapter(dict[str, str])


def keep_prompts(folder: RunFolder, texts: Mapping[str, str]) -> None:
    """Write the texts, each under its SHA-256."""
    write_text(folder.prompts, json.dumps(texts, indent=1, sort_keys=True) + "\n")


def prompts_of(folder: RunFolder) -> dict[str, str]:
    """Return the stored texts of a folder; empty for folders of versions that did not store texts.

    Raises:
        EvidenceError: The texts cannot be read.
    """
    try:
        content = folder.files.read(folder.prompts.name)
        strict_json(content)
        return _TEXTS.validate_json(content)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EvidenceError(f"{folder.prompts.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise EvidenceError(f"{folder.prompts.name} is altered: {one_line(error)}") from error
