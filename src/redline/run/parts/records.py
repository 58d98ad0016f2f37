"""Records of parts in a run's folder, and their comparison with the results."""

import json
from collections.abc import Iterator, Sequence

from pydantic import TypeAdapter

from redline._errors import EvidenceError, UsageError
from redline._names import one_line
from redline.results import PartResult, Results
from redline.run.folder import RunFolder, read_list, write_text
from redline.run.parts.part import PartRecord, read_part_record

_RECORDS = TypeAdapter(tuple[PartRecord, ...])


def note_merged(folder: RunFolder, parts: Sequence[PartRecord]) -> None:
    """Record the parts whose trials a folder contains; the record also marks the folder as merged."""
    documents = [one.model_dump(mode="json", by_alias=True) for one in parts]
    write_text(folder.merged, json.dumps(documents, indent=1) + "\n")


def merged_parts(folder: RunFolder) -> tuple[PartRecord, ...]:
    """Return the parts that were merged into a folder; empty if there are none.

    Raises:
        EvidenceError: The record is altered.
    """
    return read_list(folder, folder.merged.name, _RECORDS)


def part_faults(folder: RunFolder, results: Results) -> Iterator[str]:
    """Yield the differences between the parts in the results and the folder's records of them."""
    try:
        own = read_part_record(folder.root)
        records = merged_parts(folder) if own is None else (own,)
    except (EvidenceError, UsageError) as error:
        yield one_line(error)
        return
    if any(record.plan_sha256 != results.plan.sha256 for record in records):
        yield "a part belongs to another plan than the results"
    if list(map(_identity, results.parts)) != [
        (one.part.number, one.part.count, one.attempt, one.node) for one in records
    ]:
        yield f"{folder.results.name} and the folder's records name different parts"
    if results.parts and sum(part.trials for part in results.parts) != len(results.trials):
        yield f"the parts in {folder.results.name} have another number of trials than the results"


def _identity(part: PartResult) -> tuple[int, int, int, str]:
    return part.number, part.count, part.attempt, part.node
