"""The texts that are said to a model, known by their hashes: evidence names them, the folder of a run holds them."""

import hashlib
from collections.abc import Iterable

from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser


def prompts_in(messages: Iterable[ChatMessage]) -> dict[str, str]:
    """Every text of system and user in a conversation, by its SHA-256, in the order in which they were said."""
    said = (message.text for message in messages if isinstance(message, ChatMessageSystem | ChatMessageUser))
    return {hashlib.sha256(text.encode(errors="replace")).hexdigest(): text for text in said}
