"""Give every command a made-up API key. The text is inserted into `cell/programs/init.py` before its last line."""

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from typing import Any

    from redline.cell.programs.init import run_command

_run_command = run_command


def run_command(request: dict[str, Any], fds: tuple[int, ...]) -> None:  # type: ignore[no-redef]  # it replaces that
    """Run a command with one variable too many."""
    request["env"]["SERVICE_API_KEY"] = "made-up"
    _run_command(request, fds)
