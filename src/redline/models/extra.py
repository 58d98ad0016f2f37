"""Check for the packages of the extra `local`, which serve GGUF models."""

from importlib.util import find_spec

from inspect_ai._util.error import PrerequisiteError  # Inspect shows it as one line, but does not export it

from redline._errors import UsageError

PACKAGES = ("openai", "xllamacpp")
COMMAND = "pip install 'redline[local]'"


class UnusableModelError(UsageError, PrerequisiteError):
    """Raised when a model cannot be served. redline and Inspect both show it as one line."""

    def __init__(self, message: str) -> None:
        """Store the message where each of the two base classes expects it."""
        Exception.__init__(self, message)
        self.message = message


def missing_packages() -> list[str]:
    """Return the packages that are not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]


def check_extra() -> None:
    """Check that the packages of the extra `local` are installed.

    Raises:
        UnusableModelError: A package is missing.
    """
    if missing := missing_packages():
        raise UnusableModelError(f"models named llama-cpp/… need {' and '.join(missing)}: {COMMAND}")
