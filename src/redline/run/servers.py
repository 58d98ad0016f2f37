"""The model servers of a run: those that redline starts itself, what is recorded of them, and their slots."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from inspect_ai.model import Model
from pydantic import TypeAdapter

from redline._errors import EvidenceError, UsageError
from redline._names import one_line
from redline._records import strict_json
from redline.models.attached import attached_slots
from redline.models.served import ServedModel
from redline.run.folder import RunFolder, write_text

CELLS_PER_SLOT = 1.5
"""Cells for each slot of a model's server: while a trial's replicas are judged, another can use its slot."""

ASKED = ("openai-api", "llama-cpp-python")
"""Providers behind which a llama.cpp server can be."""

_RECORDS = TypeAdapter(tuple[ServedModel, ...])


@contextmanager
def embedded_servers(
    models: Mapping[str, Model], roles: Mapping[str, Model], folder: RunFolder, cells: int | None
) -> Iterator[None]:
    """Have a server run for each model that redline serves itself, and record what it serves.

    Args:
        models: The models under test by their label.
        roles: The models beside them by their role.
        folder: Folder of the run; it gets the logs and the record.
        cells: Cells at once, where the user says so.

    Raises:
        UsageError: A server did not start, or its file is another than the one that the run began with.
    """
    named = [*models.items(), *((f"{model} as {role}", model) for role, model in roles.items())]
    with ExitStack() as stack:
        for label, model in named:
            if is_embedded(model):
                stack.enter_context(_served(model, label, folder, cells))
        yield


def is_embedded(model: Model) -> bool:
    """Whether redline serves the model itself."""
    return str(model).startswith("llama-cpp/")


@contextmanager
def _served(model: Model, label: str, folder: RunFolder, cells: int | None) -> Iterator[None]:
    from redline.models.llama_cpp import LlamaCppAPI  # needs packages that a run with other models does not

    assert isinstance(model.api, LlamaCppAPI)
    with model.api.running(folder.next_server_log(), cells):
        _keep(folder, model.api.record(label))
        yield


def _keep(folder: RunFolder, served: ServedModel) -> None:
    """Add a record, unless it is there already."""
    kept = served_models(folder)
    for other in kept:
        if other.model == served.model and other.sha256 != served.sha256:
            raise UsageError(
                f"{served.file} is not the file that {folder.root} was begun with (its sha256 differs): choose another "
                "--out, or put the file back"
            )
    if served not in kept:
        documents = [one.model_dump(mode="json") for one in (*kept, served)]
        write_text(folder.models, json.dumps(documents, indent=1) + "\n")


def served_models(folder: RunFolder) -> tuple[ServedModel, ...]:
    """Return what the run recorded of the models that it served itself, in the order of its servers' starts.

    Raises:
        EvidenceError: The record is altered.
    """
    try:
        content = folder.files.read(folder.models.name)
        strict_json(content)
        return _RECORDS.validate_json(content)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise EvidenceError(f"{folder.models.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise EvidenceError(f"{folder.models.name} is altered: {one_line(error)}") from error


def cells_for(models: Iterable[Model]) -> int | None:
    """Return how many cells keep the models' servers busy; None where no server tells its slots."""
    slots: dict[str, int] = {}
    for model in models:
        address = str(model.api.base_url or "")
        if address and address not in slots and (found := _slots(model, address)) is not None:
            slots[address] = found
    return math.ceil(sum(slots.values()) * CELLS_PER_SLOT) if slots else None


def _slots(model: Model, address: str) -> int | None:
    if is_embedded(model):
        return int(model.api.max_connections())
    if str(model).partition("/")[0] in ASKED:
        return attached_slots(address, model.api.api_key)
    return None
