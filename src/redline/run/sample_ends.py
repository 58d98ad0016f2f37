"""The end of every sample of a run, whatever ended it.

Inspect's early stopping hears only of samples that have scores: not of one whose cell could not be made, whose error
kept the scorer from running, or that was cancelled. Its hooks hear of each. Inspect swallows what a hook raises, so
nothing that protects or proves may depend on this.
"""

from collections.abc import Callable
from contextvars import ContextVar
from functools import cache

from inspect_ai.hooks import Hooks, SampleEnd, hooks
from inspect_ai.log import EvalSample

SampleListener = Callable[[EvalSample], None]

_listener: ContextVar[SampleListener | None] = ContextVar("redline_sample_listener", default=None)


def on_sample_end(listener: SampleListener) -> None:
    """Have a function called with every sample that ends in this context, as its log has it."""
    _register()
    _listener.set(listener)


@cache
def _register() -> None:
    """Register the hook once; not at import, since Inspect prints what is registered when it starts."""
    hooks(name="redline_sample_ends", description="Counts the trials of a redline run that have ended.")(SampleEnds)


class SampleEnds(Hooks):
    """Pass each ended sample to the listener of the run; idle outside of a run."""

    def enabled(self) -> bool:
        """Return whether a run listens."""
        return _listener.get() is not None

    async def on_sample_end(self, data: SampleEnd) -> None:
        """Pass the sample on."""
        listener = _listener.get()
        if listener is not None:
            listener(data.sample)
