"""Errors with which Inspect ends a sample or a task. No handler of redline must treat one as a fault and continue."""

from typing import Final

from inspect_ai._util.exception import TerminateSampleError, TerminateTaskError
from inspect_ai.util import LimitExceededError

ENDS_THE_SAMPLE: Final = (LimitExceededError, TerminateSampleError, TerminateTaskError)
"""A limit of the sample, or an order by the operator. `except Exception` does not catch cancellation."""


def ending_in(fault: BaseException) -> BaseException | None:
    """Return the error that ends the sample: the fault itself, one inside an exception group, or None."""
    if isinstance(fault, BaseExceptionGroup):
        return next((ending for inner in fault.exceptions if (ending := ending_in(inner))), None)
    return fault if isinstance(fault, ENDS_THE_SAMPLE) else None


def raise_ending(fault: BaseException) -> None:
    """Raise the error that ends the sample again, if the fault is or contains one; otherwise return.

    Raises:
        BaseException: The error that ends the sample.
    """
    ending = ending_in(fault)
    if ending is fault:
        raise ending
    if ending is not None:
        raise ending from fault
