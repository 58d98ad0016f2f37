"""Errors that end a command, each with its exit code.

The message of an error is the one line that the user reads: what is wrong and what to do about it.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every redline command; a contract that scripts may rely on."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    SEAL = 3
    NOTHING_SCORED = 4
    CONTROL_MISJUDGED = 5
    EVIDENCE = 6
    INTERRUPTED = 130


class RedlineError(Exception):
    """Base of the errors that redline raises on purpose.

    Attributes:
        exit_code: The code with which a command ends when the error reaches it.
    """

    exit_code: ExitCode = ExitCode.INTERNAL


class UsageError(RedlineError):
    """Bad usage, a bad plan or a missing prerequisite. The message says what is wrong and how to mend it."""

    exit_code = ExitCode.USAGE


class SealError(RedlineError):
    """The containment of a cell is not proved, or its boundary raised an alarm."""

    exit_code = ExitCode.SEAL


class EvidenceError(RedlineError):
    """Evidence is missing, altered, or of a version that this redline cannot judge."""

    exit_code = ExitCode.EVIDENCE
