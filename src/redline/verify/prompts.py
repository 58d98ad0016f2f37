"""The texts sent to a model, identified by hash: the evidence names them, the run folder contains them."""

import hashlib
from collections.abc import Iterable

from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser


def prompts_in(messages: Iterable[ChatMessage]) -> dict[str, str]:
    """Return every system and user text of a conversation by its SHA-256, in order."""
    texts = (message.text for message in messages if isinstance(message, ChatMessageSystem | ChatMessageUser))
    return {hashlib.sha256(text.encode(errors="replace")).hexdigest(): text for text in texts}
