"""The Inspect model provider `llama-cpp/PATH.gguf`: a GGUF file served by a llama.cpp server that redline starts.

`redline run` starts and stops the server and keeps its log. Otherwise, as with `inspect eval`, the first request starts
it, and it stops with the process or when the model is closed.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
from inspect_ai._util.http_defaults_httpx2 import default_client_kwargs
from inspect_ai.model import ChatMessage, GenerateConfig, ModelCall, ModelOutput
from inspect_ai.model._providers.openai_compatible import OpenAICompatibleAPI
from inspect_ai.tool import ToolChoice, ToolInfo
from openai import DefaultAsyncHttpxClient

from redline._errors import UsageError
from redline._names import unknown
from redline._text import clean_line
from redline.models._figures import figures
from redline.models.extra import UnusableModelError
from redline.models.fit import fitted_size
from redline.models.gguf_header import GgufError, GgufHeader, read_gguf
from redline.models.served import ServedModel, sha256_of
from redline.models.server import EmbeddedServer, Properties, server_version

PROVIDER = "llama-cpp"
SIZES = ("ctx", "slots", "threads", "max_tokens")
PASSED_ON = ("client_timeout", "emulate_tools", "stream", "strict_tools")
MAX_SIZE = 1 << 24
CHARACTERS_PER_TOKEN = 4
UNSTARTED = "http://127.0.0.1:9/v1"
"""Placeholder: Inspect's class requires an address at construction. It is replaced before the first request."""


def direct_client(seconds: float | None = None) -> DefaultAsyncHttpxClient:
    """Return an HTTP client that ignores proxy variables, with the given timeout or Inspect's default."""
    timeout = {} if seconds is None else {"timeout": seconds}
    return DefaultAsyncHttpxClient(**default_client_kwargs(trust_env=False, follow_redirects=False, **timeout))


class LlamaCppAPI(OpenAICompatibleAPI):
    """A GGUF file as an Inspect model."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - as in Inspect's own providers; never mutated
        **model_args: Any,
    ) -> None:
        """Read the file's header and the settings, without starting a server.

        Args:
            model_name: Path of the GGUF file.
            base_url: Must be None: redline starts the server itself.
            api_key: Must be None.
            config: Configuration of generation.
            **model_args: `ctx`, `slots`, `threads`, `max_tokens`, and arguments of Inspect's OpenAI-compatible class.

        Raises:
            UnusableModelError: The file or a setting cannot be used.
        """
        self._name = f"{PROVIDER}/{model_name}"
        if base_url is not None or api_key is not None:
            raise self._unusable("redline starts its server; use openai-api/NAME/MODEL for a running one")
        self._sizes = {name: self._positive(name, model_args.pop(name)) for name in SIZES if name in model_args}
        for name in model_args:
            if name not in PASSED_ON:
                raise self._unusable(unknown("model argument", name, (*SIZES, *PASSED_ON)))
        self.header = self._read_header(model_name)
        self._asked_tokens = config.max_tokens or 0
        self.server: EmbeddedServer | None = None
        """The server after it has been started."""
        self.properties: Properties | None = None
        """Properties reported by the server."""
        self._own_server = False
        self._failure: UnusableModelError | None = None
        self._starting = anyio.Lock()
        super().__init__(
            model_name=model_name,
            base_url=UNSTARTED,
            api_key="none",
            config=config,
            service=PROVIDER,
            **model_args,
        )
        self.base_url = None

    def _read_header(self, model_name: str) -> GgufHeader:
        try:
            model_name.encode()
            return read_gguf(Path(model_name).expanduser())
        except GgufError as error:
            raise self._unusable(error) from error
        except (UnicodeEncodeError, RuntimeError) as error:
            raise self._unusable(f"has an unusable name: {error}") from error

    def _unusable(self, reason: object) -> UnusableModelError:
        return UnusableModelError(f"model {clean_line(self._name, 300)}: {clean_line(reason, 500)}")

    def _positive(self, name: str, value: object) -> int:
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= len(str(MAX_SIZE)):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_SIZE:
            raise self._unusable(f"{name} must be an integer from 1 to {MAX_SIZE} (got {clean_line(value)!r})")
        return value

    def start(self, log: Path | None = None, cells: int | None = None) -> None:
        """Start the server and wait until it is healthy. Block until then; `stop` from another thread interrupts it.

        Args:
            log: File for its log; it must not exist.
            cells: Number of concurrent cells, if the user sets it.

        Raises:
            UnusableModelError: The server did not start.
        """
        given = {name: value for name, value in self._sizes.items() if name != "max_tokens"}
        size = fitted_size(self.header, cells=cells, **given)
        max_tokens = min(size.ctx, max(figures().server.answer_limit, self.max_tokens(), self._asked_tokens))
        self.server = EmbeddedServer(self.header, self.service_model_name(), size, max_tokens, log)
        try:
            self.properties = self.server.start()
        except UsageError as error:
            self._failure = self._unusable(error)
            raise self._failure from error
        self.base_url = f"{self.server.address}/v1"
        self.api_key = self.server.key
        self.initialize()

    def stop(self) -> None:
        """Stop the server and wait for its end."""
        if self.server is not None:
            self.server.close()
            self.server, self.base_url = None, None

    @contextmanager
    def running(self, log: Path, cells: int | None = None) -> Iterator[None]:
        """Run the server during the block; see `start`."""
        try:
            self.start(log, cells)
            yield
        finally:
            self.stop()

    def record(self, label: str) -> ServedModel:
        """Return the model's record for the results. This reads the whole file.

        Raises:
            UnusableModelError: The file can no longer be read.
        """
        assert self.properties is not None, "the server runs"
        try:
            sha256 = sha256_of(self.header.files)
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror}") from error
        template = self.header.chat_template
        return ServedModel(
            model=label,
            file=self.header.files[0].name,
            size=self.header.size,
            sha256=sha256,
            architecture=clean_line(self.header.architecture),
            quantisation=self.properties.quantisation,
            context=self.properties.ctx,
            trained_context=self.header.trained_context,
            slots=self.properties.slots,
            chat_template_sha256=None if template is None else hashlib.sha256(template.encode()).hexdigest(),
            server=server_version(),
            sampling=dict(self.properties.sampling),
            max_tokens=self._asked_tokens or self.max_tokens(),
        )

    async def _started(self) -> None:
        if self.server is not None:
            return
        async with self._starting:
            if self.server is not None:
                return
            if self._failure is not None:
                raise self._failure
            try:
                await anyio.to_thread.run_sync(self.start, abandon_on_cancel=True)
            except BaseException:
                self.stop()
                raise
            self._own_server = True

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput | tuple[ModelOutput | Exception, ModelCall]:
        """Generate with the server. The first call starts it if it is not running."""
        await self._started()
        return await super().generate(input, tools, tool_choice, config)

    async def aclose(self) -> None:
        """Close the client, and the server if a call started it."""
        await super().aclose()
        if self._own_server:
            self._own_server = False
            await anyio.to_thread.run_sync(self.stop)

    def _apply_api_key_overrides(self) -> None:
        """Ignore keys from hooks and the environment: only this process knows the server's key."""

    def _create_http_client(self) -> DefaultAsyncHttpxClient:
        return direct_client(self.client_timeout)

    def service_model_name(self) -> str:
        """Return the server's name of the model: its file name without the suffix."""
        return Path(self.model_name).stem

    def model_family(self) -> str:
        """Return a name that does not match the family of any hosted model."""
        return PROVIDER

    def max_tokens(self) -> int:
        """Return the default limit of an answer: small models do not always stop."""
        return self._sizes.get("max_tokens", figures().server.max_tokens)

    def max_connections(self) -> int:
        """Return the number of slots, so that Inspect queues further requests and counts them as waiting."""
        if self.properties is not None:
            return self.properties.slots
        return self._sizes.get("slots") or fitted_size(self.header).slots

    def connection_key(self) -> str:
        """Return a key that is unique to this model: each model has its own server."""
        return f"{self.model_name}:{id(self)}"

    async def count_text_tokens(self, text: str) -> int:
        """Estimate tokens from the length; Inspect's own estimate would download a tokenizer."""
        return max(1, len(text) // CHARACTERS_PER_TOKEN)
