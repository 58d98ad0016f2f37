"""Errors that end a command, each with its exit code.

The message of an error is a single line for the user: what is wrong and how to fix it.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every redline command; scripts can rely on them."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    SEAL = 3
    NOTHING_SCORED = 4
    CONTROL_MISJUDGED = 5
    EVIDENCE = 6
    INTERRUPTED = 130


class RedlineError(Exception):
    """Base class of redline's errors.

    Attributes:
        exit_code: Exit code of a command that ends with this error.
    """

    exit_code: ExitCode = ExitCode.INTERNAL


class UsageError(RedlineError):
    """Raised for bad usage, a bad plan or a missing prerequisite. The message says what is wrong and how to fix it."""

    exit_code = ExitCode.USAGE


class SealError(RedlineError):
    """Raised when the containment of a cell is not proved, or its boundary raised an alarm."""

    exit_code = ExitCode.SEAL


class EvidenceError(RedlineError):
    """Raised when evidence is missing, altered, or of a version that this redline cannot judge."""

    exit_code = ExitCode.EVIDENCE
