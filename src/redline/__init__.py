"""redline: does an AI agent make a live, separate copy of itself, and do guardrails stop it?

The public API is in `redline.api`.
"""

__all__ = ["__version__"]

__version__: str


def __getattr__(name: str) -> str:
    """Return the version, looked up on first use because the lookup is slow compared with the rest of `--help`."""
    if name != "__version__":
        raise AttributeError(f"module 'redline' has no attribute '{name}'")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("redline")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0.0.0+source"
