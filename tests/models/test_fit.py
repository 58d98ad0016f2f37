"""The embedded server fits into memory: slots are reduced first, then the context."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.models._figures import figures
from redline.models.fit import MIB, fitted_size
from redline.models.gguf_header import GgufHeader

GIB = 1 << 30
FIGURES = figures().fit


def model(context: int = 131_072, layers: int = 32, size: int = 5 * GIB) -> GgufHeader:
    """Return the header of a model. With eight billion parameters, a token takes 128 KiB of cache."""
    fields = {"block_count": layers, "embedding_length": 4096, "context_length": context}
    heads = {"attention.head_count": 32, "attention.head_count_kv": 8}
    named = {f"llama.{name}": value for name, value in (fields | heads).items()}
    return GgufHeader((Path("m.gguf"),), size, {"general.architecture": "llama", **named})


def test_slots_follow_the_cells_and_given_values_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2})
    roomy = 512 * GIB
    assert fitted_size(model(), available=roomy).slots == 3
    assert fitted_size(model(), available=roomy, cells=1).slots == 1
    assert fitted_size(model(), available=roomy, cells=20).slots == FIGURES.max_slots
    asked = fitted_size(model(), available=GIB, ctx=65_536, slots=20, threads=7)
    assert (asked.ctx, asked.slots, asked.threads) == (65_536, 20, 7)


def test_the_context_is_the_models_own_up_to_a_bound() -> None:
    assert fitted_size(model(), available=512 * GIB).ctx == FIGURES.context
    assert fitted_size(model(context=8192), available=512 * GIB).ctx == 8192
    assert fitted_size(GgufHeader((), 0, {}), available=512 * GIB).ctx == FIGURES.context


def test_with_less_memory_slots_are_reduced_first() -> None:
    assert [fitted_size(model(), available=gib * GIB, cells=4).slots for gib in (64, 32, 16)] == [4, 3, 1]
    assert fitted_size(model(), available=16 * GIB, cells=4).ctx == FIGURES.context
    assert fitted_size(model(), available=10 * GIB, cells=4).ctx < FIGURES.context


@given(st.integers(0, 512 * GIB), st.integers(1, 64), st.integers(1, 200), st.integers(1, 1 << 20))
def test_the_chosen_size_fits_or_is_the_minimum(available: int, cells: int, layers: int, context: int) -> None:
    header = model(context, layers)
    size = fitted_size(header, available=available, cells=cells)
    per_token = header.kv_bytes_per_token()
    assert per_token
    room = available * FIGURES.memory_fraction - header.size - FIGURES.buffers_mib * MIB
    fits = (size.ctx - 256) * size.slots * per_token + size.prompts_mib * MIB <= max(room, 0)
    least = size.slots == 1 and size.ctx <= FIGURES.min_context and size.prompts_mib == 0
    assert fits or least
    assert size.ctx >= 1
