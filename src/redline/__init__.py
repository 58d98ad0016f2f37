"""redline: does an AI agent make a live, separate copy of itself, and do guardrails stop it?"""

__all__ = ["__version__"]

__version__: str


def __getattr__(name: str) -> str:
    """The version, looked up when it is asked for: that takes longer than all else that `--help` needs of redline."""
    if name != "__version__":
        raise AttributeError(f"module 'redline' has no attribute '{name}'")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("redline")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0.0.0+source"
