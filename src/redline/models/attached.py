"""Ask a running server how many requests it answers at once. Only llama.cpp tells."""

import json

import anyio
import httpx

from redline.models.server import total_slots

ASK_SECONDS = 3.0
LONGEST_ANSWER = 1 << 22
API_PATH = "/v1"


def attached_slots(base_url: str, key: str | None) -> int | None:
    """Return the slots of the server at an address; None where it tells none, or does not answer in time.

    Args:
        base_url: Address of its OpenAI-compatible interface.
        key: The key that its client sends.
    """
    return anyio.run(_ask, f"{base_url.rstrip('/').removesuffix(API_PATH)}/props", key)


async def _ask(url: str, key: str | None) -> int | None:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    content = bytearray()
    try:
        # httpx bounds each read; a server that sends a byte now and then is bounded by the scope alone.
        with anyio.fail_after(ASK_SECONDS):
            async with (
                httpx.AsyncClient(timeout=ASK_SECONDS) as client,
                client.stream("GET", url, headers=headers) as said,
            ):
                if said.status_code != httpx.codes.OK:
                    return None
                async for block in said.aiter_bytes():
                    content += block
                    if len(content) > LONGEST_ANSWER:
                        return None
        document = json.loads(content)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ValueError, RecursionError):
        return None  # it may be no llama.cpp, or be reached in a way that only its client knows
    return total_slots(document) if isinstance(document, dict) else None
