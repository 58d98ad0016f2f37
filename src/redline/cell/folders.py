"""Make folders with an exact mode. The `mode` of `mkdir` is cut by the umask of the user's shell."""

from pathlib import Path

TRAVERSABLE = 0o711
"""The cell's users are other users on the host: they may pass through a folder of the cell, but not list it."""


def make_folder(path: Path, mode: int = TRAVERSABLE, *, parents: bool = False, exist_ok: bool = False) -> None:
    """Make a folder with exactly this mode, whatever the umask.

    Args:
        path: Folder to make.
        mode: Permission bits.
        parents: Whether missing parents are made, too, with the same mode.
        exist_ok: Whether a folder that exists is left as it is.

    Raises:
        OSError: It cannot be made.
    """
    if parents and not path.parent.exists():
        make_folder(path.parent, mode, parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not exist_ok or not path.is_dir():
            raise
        return
    path.chmod(mode)
