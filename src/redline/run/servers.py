"""Model servers of a run: start the embedded ones, record what they serve, and count their slots."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from inspect_ai.model import Model
from pydantic import TypeAdapter

from redline._errors import UsageError
from redline.models.attached import attached_slots
from redline.models.served import ServedModel
from redline.run.folder import RunFolder, read_list, write_text

CELLS_PER_SLOT = 1.5
"""Cells per slot of a model's server: while the verifier judges one trial, another trial can use its slot."""

LLAMA_CPP_PROVIDERS = ("openai-api", "llama-cpp-python")
"""Providers whose server can be a llama.cpp server, which reports its slots."""

_RECORDS = TypeAdapter(tuple[ServedModel, ...])


@contextmanager
def embedded_servers(
    models: Mapping[str, Model], roles: Mapping[str, Model], folder: RunFolder, cells: int | None
) -> Iterator[None]:
    """Run a server for each model that redline serves itself, and record what it serves.

    Args:
        models: Models under test by label.
        roles: Other models by role.
        folder: Folder of the run, for logs and record.
        cells: Number of concurrent cells that the user requests; None if there is no request.

    Raises:
        UsageError: A server does not start, or its file differs from the one at the first start of the run.
    """
    named = [*models.items(), *((f"{model} as {role}", model) for role, model in roles.items())]
    with ExitStack() as stack:
        for label, model in named:
            if is_embedded(model):
                stack.enter_context(_served(model, label, folder, cells))
        yield


def is_embedded(model: Model) -> bool:
    """Return whether redline serves the model itself."""
    return str(model).startswith("llama-cpp/")


@contextmanager
def _served(model: Model, label: str, folder: RunFolder, cells: int | None) -> Iterator[None]:
    from redline.models.llama_cpp import LlamaCppAPI  # needs optional packages

    assert isinstance(model.api, LlamaCppAPI)
    with model.api.running(folder.next_server_log(), cells):
        record_served(folder, model.api.record(label))
        yield


def record_served(folder: RunFolder, served: ServedModel) -> None:
    """Add a record, unless it exists already.

    Raises:
        UsageError: The folder has a record of the same model with another file.
    """
    kept = served_models(folder)
    for other in kept:
        if other.model == served.model and other.sha256 != served.sha256:
            raise UsageError(
                f"{served.file} is not the file that {folder.root} was started with (its sha256 differs): choose "
                "another --out, or restore the file"
            )
    if served not in kept:
        documents = [one.model_dump(mode="json") for one in (*kept, served)]
        write_text(folder.models, json.dumps(documents, indent=1) + "\n")


def served_models(folder: RunFolder) -> tuple[ServedModel, ...]:
    """Return the records of the models that redline served, in the order in which their servers started.

    Raises:
        EvidenceError: The record is altered.
    """
    return read_list(folder, folder.models.name, _RECORDS)


def max_cells_for_servers(models: Iterable[Model]) -> int | None:
    """Return how many cells keep the models' servers busy; None if no server reports its slots."""
    slots: dict[str, int] = {}
    for model in models:
        address = str(model.api.base_url or "")
        if address and address not in slots and (found := _slots(model, address)) is not None:
            slots[address] = found
    return math.ceil(sum(slots.values()) * CELLS_PER_SLOT) if slots else None


def _slots(model: Model, address: str) -> int | None:
    if is_embedded(model):
        return int(model.api.max_connections())
    if str(model).partition("/")[0] in LLAMA_CPP_PROVIDERS:
        return attached_slots(address, model.api.api_key)
    return None
