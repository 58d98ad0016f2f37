"""The folder of a run: its files, and the plan that it belongs to.

A folder belongs to the plan that it was created for. A run that finds another or changed plan there changes nothing.
"""

import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter

from redline._errors import EvidenceError, UsageError
from redline._names import one_line
from redline._records import RecordError, Records, refuse_link, strict_json
from redline.plan import Plan, PlanRecord
from redline.results import Results
from redline.run.lock import exclusive_lock
from redline.run.parts.part import RECORD as PART
from redline.run.parts.part import PartRecord, read_part_record

M = TypeVar("M", bound=BaseModel)

RECORDS = ("*.json", "*.jsonl", "server-*.log")
"""Names of the records in a run's folder."""

MIN_FREE_BYTES = 64 * 2**20
"""Minimum free disk space at the start; with less, a run would fail halfway."""


class RunFolder:
    """Folder that a run writes to."""

    def __init__(self, root: Path) -> None:
        """Store the paths; create nothing.

        Args:
            root: The folder; it need not exist yet.
        """
        self.root = root
        self.files = Records(root)
        self.plan = root / "plan.json"
        self.logs = root / "logs"
        self.evidence = root / "evidence"
        self.seals = root / "seals.jsonl"
        self.preflight = root / "preflight.jsonl"
        self.alarms = root / "alarms.jsonl"
        self.models = root / "models.json"
        self.prompts = root / "prompts.json"
        self.results = root / "results.json"
        self.signature = root / "signature.json"
        self.report = root / "report.html"
        self.part = root / PART
        self.merged = root / "parts.json"
        self.parts = root / "parts"
        self.incident = root / "incident.md"

    def refuse_file(self) -> None:
        """Refuse a path that cannot become a folder, because it or one of its parents is a file.

        Raises:
            UsageError: There is such a file.
        """
        existing = next((path for path in (self.root, *self.root.parents) if os.path.lexists(path)), None)
        if existing is not None and not existing.is_dir():
            raise UsageError(f"{existing} is not a folder; choose another --out")

    def records(self) -> list[Path]:
        """Return the records that the chain of the results covers: the plan, alarms and all other records of a run."""
        others = (self.results.name, self.signature.name)
        return [self.root / name for name, _ in self.files.names() if _is_record(name) and name not in others]

    def next_server_log(self) -> Path:
        """Return the log path for the next model server that redline starts."""
        taken = {path.name for path in self.root.glob("server-*.log")}
        return self.root / next(name for number in count(1) if (name := f"server-{number}.log") not in taken)

    @contextmanager
    def claimed(self, plan: Plan, part: PartRecord | None = None, *, for_merge: bool = False) -> Iterator[PlanRecord]:
        """Lock the folder for a plan; a plan that is already in the folder must be the same.

        Args:
            plan: The plan.
            part: Attempt at a part that the folder is for; None if it is for the whole plan.
            for_merge: Whether the folder is for the merged parts of the plan.

        Yields:
            The record of the plan.

        Raises:
            UsageError: The folder belongs to another plan or part, is in use by another run, or cannot be written.
        """
        self.refuse_file()
        self._refuse_other_use(part, for_merge=for_merge)
        record = PlanRecord.of(plan)
        found = read_plan_record(self)
        if found is not None and found.sha256 != record.sha256:
            differing = ", ".join(name for name, value in record if name != "sha256" and value != getattr(found, name))
            raise UsageError(
                f"{self.root} belongs to another plan ({differing} differ): choose another --out, or use the original "
                "plan"
            )
        if found is None and self.logs.is_dir() and any(self.logs.glob("*.eval")):
            raise UsageError(f"{self.root} contains logs but no plan.json; choose another --out")
        self._make()
        if found is None:
            write_text(self.plan, json.dumps(record.model_dump(mode="json", by_alias=True), indent=2) + "\n")
        with exclusive_lock(self.root, self.plan):
            self._refuse_other_use(part, for_merge=for_merge)  # another run may have had the folder until now
            if part is not None and not self.part.exists():
                write_text(self.part, part.document())
            self._sweep()
            yield record

    def _refuse_other_use(self, part: PartRecord | None, *, for_merge: bool) -> None:
        """Refuse to mix the trials of a whole plan, of a part and of merged parts in one folder."""
        kept = read_part_record(self.root)
        if kept is not None and kept != part:
            raise UsageError(
                f"{self.root} contains attempt {kept.attempt} of part {kept.part} of a run: choose another --out"
                + ("" if part or for_merge else f", or add --part {kept.part}")
            )
        is_merged = self.merged.exists() or self.parts.exists()
        has_trials = self.logs.is_dir() and any(self.logs.glob("*.eval"))
        if is_merged and not for_merge:
            raise UsageError(
                f"{self.root} contains a run in parts: add --workers N to resume it, or choose another --out"
            )
        if has_trials and not self.merged.exists() and (for_merge or (part is not None and kept is None)):
            raise UsageError(f"{self.root} contains trials of a run without parts: choose another --out")

    def _sweep(self) -> None:
        """Remove temporary files that an interrupted write left; this run holds the lock, and no chain covers them."""
        for pattern in RECORDS:
            for left in (*self.root.glob(f".{pattern}.*"), *self._left_in_evidence(f".{pattern}.*")):
                with suppress(IsADirectoryError):  # a folder is not left by a write
                    left.unlink()

    def _left_in_evidence(self, pattern: str) -> Iterator[Path]:
        yield from self.evidence.glob(pattern)
        for name, is_folder in self.files.names(self.evidence.name):
            if is_folder:
                yield from (self.evidence / name).glob(pattern)

    def _make(self) -> None:
        try:
            for folder in (self.root, self.logs, self.evidence):
                folder.mkdir(parents=True, exist_ok=True)
                if folder != self.root:
                    refuse_link(folder)
            with tempfile.TemporaryFile(dir=self.root):
                pass
            room = os.statvfs(self.root)
        except OSError as error:
            raise UsageError(f"cannot write to {self.root}: {error.strerror}; choose another --out") from error
        if room.f_bavail * room.f_frsize < MIN_FREE_BYTES:
            raise UsageError(f"{self.root} has less than {MIN_FREE_BYTES >> 20} MiB free; choose another --out")


def read_plan_record(folder: RunFolder) -> PlanRecord | None:
    """Return the plan that a folder belongs to; None if it has none.

    Raises:
        UsageError: The plan cannot be read, or is not a plan.
    """
    try:
        content = folder.files.read(folder.plan.name)
        strict_json(content)
        return PlanRecord.model_validate_json(content)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise UsageError(f"{folder.root} is not a folder; choose another --out") from error
    except OSError as error:
        raise UsageError(f"cannot read {folder.plan}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{folder.plan} is not a plan: {one_line(error)}; choose another --out") from error


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, so that an interruption leaves the previous content.

    Raises:
        UsageError: There is a folder of that name.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; a link of that name is replaced, not followed.

    Raises:
        UsageError: There is a folder of that name.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:  # with the rights that the user's umask leaves
            file.write(content)
        temporary.replace(path)
    except IsADirectoryError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: it is a folder") from error
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(path)  # the error of a full disk does not name the file
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_results(folder: RunFolder) -> Results:
    """Return the results of a run.

    Raises:
        EvidenceError: The results were altered, or are of another version.
        UsageError: There are no results, or they cannot be read.
    """
    content = results_content(folder)
    try:
        strict_json(content)
        return Results.model_validate_json(content)
    except ValueError as error:
        raise EvidenceError(f"{folder.results} is altered, or of another version: {one_line(error)}") from error


def results_content(folder: RunFolder) -> bytes:
    """Return the bytes of a run's results.

    Raises:
        EvidenceError: `results.json` is not a regular file, or is too large.
        UsageError: There are no results, or they cannot be read.
    """
    try:
        return folder.files.read(folder.results.name)
    except FileNotFoundError as error:
        raise UsageError(f"{folder.root} contains no results.json: it is not the folder of a finished run") from error
    except RecordError as error:
        raise EvidenceError(f"{folder.results.name} is altered: {error.strerror}") from error
    except OSError as error:
        raise UsageError(f"cannot read {folder.results}: {error.strerror}") from error


def _is_record(name: str) -> bool:
    return not name.startswith(".") and any(fnmatchcase(name, pattern) for pattern in RECORDS)


def read_list(folder: RunFolder, name: str, kind: TypeAdapter[tuple[M, ...]]) -> tuple[M, ...]:
    """Return the entries of a record that is one JSON list; empty if the folder has no such record.

    Args:
        folder: Folder of the run.
        name: Name of the record.
        kind: The type of the list.

    Raises:
        EvidenceError: The record cannot be read, or is altered.
    """
    try:
        content = folder.files.read(name)
        strict_json(content)
        return kind.validate_json(content)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise EvidenceError(f"{name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise EvidenceError(f"{name} is altered: {one_line(error)}") from error
