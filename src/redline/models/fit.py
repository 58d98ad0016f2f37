"""Choose context length and number of slots of the embedded server, so that they fit the memory of the host."""

import os
from dataclasses import dataclass

import psutil

from redline.models._figures import figures
from redline.models.gguf_header import GgufHeader

MIB = 1 << 20
STEP = 256
"""llama.cpp rounds contexts up to this."""


@dataclass(frozen=True)
class Size:
    """How large a server is."""

    ctx: int
    """Tokens of context of one slot."""
    slots: int
    """Requests that are answered at once."""
    threads: int
    """Threads that compute."""
    prompts_mib: int
    """Memory for prompts of conversations that wait for a slot."""


def processors() -> int:
    """Return the number of processors that this process may use."""
    return max(1, len(os.sched_getaffinity(0)))


def fitted_size(
    header: GgufHeader,
    *,
    ctx: int | None = None,
    slots: int | None = None,
    threads: int | None = None,
    cells: int | None = None,
    available: int | None = None,
) -> Size:
    """Choose what is not given.

    Fewer slots come before a shorter context: a trial that runs out of context is lost, one that waits is not.

    Args:
        header: The model.
        ctx: Context of one slot, as the user wants it.
        slots: Slots, as the user wants them.
        threads: Threads, as the user wants them.
        cells: Cells at once, where the user says so.
        available: Bytes of memory that are free; asked from the system if None.
    """
    fit, wanted_slots, wanted_ctx = figures().fit, slots, ctx
    free = psutil.virtual_memory().available if available is None else available
    room = free * fit.share_of_memory - header.size - fit.buffers_mib * MIB
    per_token = header.kv_bytes_per_token() or 0
    ctx = wanted_ctx or min(header.trained_context or fit.context, fit.context)
    slots = wanted_slots or max(1, min(cells or processors(), fit.most_slots))
    while wanted_slots is None and slots > 1 and ctx * slots * per_token > room:
        slots -= 1
    while wanted_ctx is None and ctx > fit.least_context and ctx * slots * per_token > room:
        ctx = max(ctx // 2, fit.least_context)
    left = max(0.0, room - ctx * slots * per_token)
    return Size(
        ctx=-(-ctx // STEP) * STEP,
        slots=slots,
        threads=threads or processors(),
        prompts_mib=int(min(left * fit.share_for_prompts / MIB, fit.most_for_prompts_mib)),
    )
