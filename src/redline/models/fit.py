"""Choose the context length and the number of slots of the embedded server so that they fit the host's memory."""

import os
from dataclasses import dataclass

import psutil

from redline.models._figures import figures
from redline.models.gguf_header import GgufHeader

MIB = 1 << 20
STEP = 256
"""llama.cpp rounds context lengths up to a multiple of this."""


@dataclass(frozen=True)
class Size:
    """Size of a server."""

    ctx: int
    """Context length of one slot, in tokens."""
    slots: int
    """Requests answered in parallel."""
    threads: int
    """Number of compute threads."""
    prompts_mib: int
    """Memory for the cached prompts of conversations that wait for a slot, in MiB."""


def processors() -> int:
    """Return the number of processors available to this process."""
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
    """Choose the values that are not given.

    Slots are reduced before the context: a trial that runs out of context is lost, a trial that waits is not.

    Args:
        header: The model.
        ctx: Context length of one slot, if the user sets it.
        slots: Number of slots, if the user sets it.
        threads: Number of threads, if the user sets it.
        cells: Number of concurrent cells, if the user sets it.
        available: Free memory in bytes; queried from the system if None.
    """
    fit, wanted_slots, wanted_ctx = figures().fit, slots, ctx
    free = psutil.virtual_memory().available if available is None else available
    room = free * fit.memory_fraction - header.size - fit.buffers_mib * MIB
    per_token = header.kv_bytes_per_token() or 0
    ctx = wanted_ctx or min(header.trained_context or fit.context, fit.context)
    slots = wanted_slots or max(1, min(cells or processors(), fit.max_slots))
    while wanted_slots is None and slots > 1 and ctx * slots * per_token > room:
        slots -= 1
    while wanted_ctx is None and ctx > fit.min_context and ctx * slots * per_token > room:
        ctx = max(ctx // 2, fit.min_context)
    left = max(0.0, room - ctx * slots * per_token)
    return Size(
        ctx=-(-ctx // STEP) * STEP,
        slots=slots,
        threads=threads or processors(),
        prompts_mib=int(min(left * fit.prompt_cache_fraction / MIB, fit.max_prompt_cache_mib)),
    )
