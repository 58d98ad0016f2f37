"""Report the end of every sample of a run, for whatever reason it ended.

Inspect's early stopping covers only samples with scores. It misses samples whose cell could not be created, whose error
prevented scoring, or that were cancelled; Inspect's hooks cover these too. Inspect swallows exceptions from hooks, so
protection and proof must not depend on this module.
"""

from collections.abc import Callable
from contextvars import ContextVar
from functools import cache

from inspect_ai.hooks import Hooks, SampleEnd, hooks
from inspect_ai.log import EvalSample

SampleListener = Callable[[EvalSample], None]

_listener: ContextVar[SampleListener | None] = ContextVar("redline_sample_listener", default=None)


def on_sample_end(listener: SampleListener) -> None:
    """Call a function with every sample that ends in this context, as it is in the log."""
    _register()
    _listener.set(listener)


@cache
def _register() -> None:
    """Register the hook once; not at import, since Inspect prints the registered hooks when it starts."""
    hooks(name="redline_sample_ends", description="Counts the trials of a redline run that have ended.")(SampleEnds)


class SampleEnds(Hooks):
    """Passes each ended sample to the listener of the run; inactive outside a run."""

    def enabled(self) -> bool:
        """Return whether a run listens."""
        return _listener.get() is not None

    async def on_sample_end(self, data: SampleEnd) -> None:
        """Pass the sample on."""
        listener = _listener.get()
        if listener is not None:
            listener(data.sample)
