"""Query how many requests a running server answers in parallel. Only llama.cpp reports it."""

import json

import anyio
import httpx

from redline.models.server import total_slots

ASK_SECONDS = 3.0
MAX_ANSWER_BYTES = 1 << 22
API_PATH = "/v1"


def attached_slots(base_url: str, key: str | None) -> int | None:
    """Return the number of slots of a server; None if it does not report them or does not answer in time.

    Args:
        base_url: Address of its OpenAI-compatible API.
        key: The API key that its client sends.
    """
    return anyio.run(_ask, f"{base_url.rstrip('/').removesuffix(API_PATH)}/props", key)


async def _ask(url: str, key: str | None) -> int | None:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    content = bytearray()
    try:
        # httpx bounds each read; only the scope bounds a server that sends a byte now and then.
        with anyio.fail_after(ASK_SECONDS):
            async with (
                httpx.AsyncClient(timeout=ASK_SECONDS) as client,
                client.stream("GET", url, headers=headers) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    return None
                async for block in response.aiter_bytes():
                    content += block
                    if len(content) > MAX_ANSWER_BYTES:
                        return None
        document = json.loads(content)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ValueError, RecursionError):
        return None  # the server might not be llama.cpp, or only its own client may be able to reach it
    return total_slots(document) if isinstance(document, dict) else None
