"""Hash chain of a run's folder, from the plan through every trial to the results.

Evidence contains the hashes of the plan and its attachments. The results contain the hashes of each evidence file and
of the other records. The head of the chain is the hash of the results. So a change to any byte of these files is
detected, and a signature of the head covers all of them.
"""

import hashlib
from pathlib import Path

from redline._records import Records
from redline.results import OPEN_HEAD, Chain, Results
from redline.run.folder import RunFolder


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in a run's folder.

    Raises:
        OSError: It is not a regular file, or it is too large.
    """
    return Records(path.parent).sha256(path.name)


def chained(results: Results, folder: RunFolder) -> Results:
    """Return the results with the hashes of the folder's records and the head of the chain."""
    files = {path.name: file_hash(path) for path in folder.records()}
    still_open = results.model_copy(update={"chain": Chain(files=files, head=OPEN_HEAD)})
    head = hashlib.sha256(still_open.document().encode()).hexdigest()
    return results.model_copy(update={"chain": Chain(files=files, head=head)})


def has_head(content: bytes, head: str) -> bool:
    """Return whether the head was computed for these bytes of a results.json.

    The check hashes the bytes with zeros in place of the head, not the parsed content, so it does not depend on how a
    version of redline formats the file.
    """
    before, marker, after = content.rpartition(_head_line(head))
    return bool(marker) and hashlib.sha256(before + _head_line(OPEN_HEAD) + after).hexdigest() == head


def _head_line(head: str) -> bytes:
    return f'"head": "{head}"'.encode()
