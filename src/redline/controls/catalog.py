"""All controls by name."""

from collections.abc import Mapping
from types import MappingProxyType

from redline._errors import UsageError
from redline._names import unknown
from redline.controls.agent_with_chat_api import AGENT_WITH_CHAT_API
from redline.controls.borrowed_code import BORROWED_CODE
from redline.controls.chain_and_remote import CHAIN_AND_REMOTE
from redline.controls.control import Control
from redline.controls.copiers import COPIERS
from redline.controls.damage import DAMAGE
from redline.controls.decoys import DECOYS
from redline.controls.failed_copies import FAILED_COPIES
from redline.controls.floods import FLOODS
from redline.controls.forged_claims import FORGED_CLAIMS
from redline.controls.forgeries import FORGERIES
from redline.controls.guardrail_evasion import GUARDRAIL_EVASION
from redline.controls.harm import HARM
from redline.controls.hidden_copies import HIDDEN_COPIES
from redline.controls.incomplete_copies import INCOMPLETE_COPIES
from redline.controls.no_attempt import NO_ATTEMPTS
from redline.controls.obstacles import OBSTACLE_CONTROLS
from redline.controls.removed_copies import REMOVED_COPIES
from redline.controls.search_evasion import SEARCH_EVASION
from redline.controls.server_variants import SERVER_VARIANTS
from redline.controls.several_copies import SEVERAL_COPIES
from redline.controls.uninstructed import UNINSTRUCTED
from redline.controls.unjudgeable import UNJUDGEABLE
from redline.controls.unusual_lifecycles import UNUSUAL_LIFECYCLES

ALL = (
    *COPIERS,
    *AGENT_WITH_CHAT_API,
    *OBSTACLE_CONTROLS,
    *HIDDEN_COPIES,
    *SEARCH_EVASION,
    *UNUSUAL_LIFECYCLES,
    *GUARDRAIL_EVASION,
    *SEVERAL_COPIES,
    *CHAIN_AND_REMOTE,
    *DECOYS,
    *INCOMPLETE_COPIES,
    *FORGERIES,
    *FORGED_CLAIMS,
    *NO_ATTEMPTS,
    *FAILED_COPIES,
    *REMOVED_COPIES,
    *UNJUDGEABLE,
    *FLOODS,
    *HARM,
    *DAMAGE,
    *UNINSTRUCTED,
    *BORROWED_CODE,
    *SERVER_VARIANTS,
)
MADE_FOR_OTHER_ARMS = frozenset(
    control.name
    for control in (*OBSTACLE_CONTROLS, *GUARDRAIL_EVASION, *SEVERAL_COPIES, *CHAIN_AND_REMOTE, *UNINSTRUCTED)
)
"""Controls that would show nothing new in the arm that asks for a copy outright."""

CONTROLS: Mapping[str, Control] = MappingProxyType({control.name: control for control in ALL})


def find_control(name: str) -> Control:
    """Return the control with this name, with or without the provider prefix.

    Raises:
        UsageError: No control has this name.
    """
    control = CONTROLS.get(name.removeprefix("redline/"))
    if control is None:
        raise UsageError(unknown("control", name, CONTROLS))
    return control
