"""The hash chain of a run's folder, from the plan through every trial to the results.

Evidence bears the hash of the plan and of its attachments; the results bear the hash of each evidence file and of the
other records; and the head of the chain is the hash of the results themselves. So a change of any byte of any of these
files shows, and who signs the head signs them all.
"""

import hashlib
from pathlib import Path

from redline._records import Records
from redline.results import OPEN_HEAD, Chain, Results
from redline.run.folder import RunFolder


def file_hash(path: Path) -> str:
    """SHA-256 of a file of a run's folder.

    Raises:
        OSError: It is no regular file, or is too large.
    """
    return Records(path.parent).sha256(path.name)


def chained(results: Results, folder: RunFolder) -> Results:
    """The results with the hashes of the folder's records and the head of the chain."""
    files = {path.name: file_hash(path) for path in folder.records()}
    still_open = results.model_copy(update={"chain": Chain(files=files, head=OPEN_HEAD)})
    head = hashlib.sha256(still_open.document().encode()).hexdigest()
    return results.model_copy(update={"chain": Chain(files=files, head=head)})


def has_head(content: bytes, head: str) -> bool:
    """Whether the bytes of a results.json are those for which its head was computed.

    The bytes themselves are hashed, with zeros in the place of the head, and not what they mean: so nothing depends on
    how a version of redline would write them.
    """
    before, marker, after = content.rpartition(_head_line(head))
    return bool(marker) and hashlib.sha256(before + _head_line(OPEN_HEAD) + after).hexdigest() == head


def _head_line(head: str) -> bytes:
    return f'"head": "{head}"'.encode()
