"""Give every command a supplementary group. The text is inserted into `cell/programs/init.py` before its last line."""

import os

TYPE_CHECKING = False  # known to type checkers; importing typing would add milliseconds to every start
if TYPE_CHECKING:
    from redline.cell.programs.init import AGENT_ID


def become(user: str) -> None:
    """Take the identity of a user, with one group too many."""
    os.setgroups([AGENT_ID])
    if user == "agent":
        os.setresgid(AGENT_ID, AGENT_ID, AGENT_ID)
        os.setresuid(AGENT_ID, AGENT_ID, AGENT_ID)
