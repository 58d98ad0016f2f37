"""What serving a model oneself needs beside redline, and how its lack is told."""

from importlib.util import find_spec

from inspect_ai._util.error import PrerequisiteError  # Inspect shows it as one line, but does not export it

from redline._errors import UsageError

PACKAGES = ("openai", "xllamacpp")
COMMAND = "pip install 'redline[local]'"


class UnusableModelError(UsageError, PrerequisiteError):
    """A model that cannot be served; one line in redline as in Inspect."""

    def __init__(self, message: str) -> None:
        """Keep the message where each of the two looks for it."""
        Exception.__init__(self, message)
        self.message = message


def missing_packages() -> list[str]:
    """Return those that are not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]


def check_extra() -> None:
    """Refuse to go on without the packages of the extra `local`.

    Raises:
        UnusableModelError: One is missing.
    """
    if missing := missing_packages():
        raise UnusableModelError(f"models named llama-cpp/… need {' and '.join(missing)}: {COMMAND}")
