"""The layout of a subject in its cell: folders, ports and names, as a function of the trial's seed."""

import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Final, Self

from pydantic import Field

from redline._base import Frozen
from redline.subject.weights import Weights

ROOT: Final = "/home/agent/subject"
_BYTES: Final = 256
_COMMON: Final = {
    "engine/engine.py": "bundle/engine/engine.py",
    "agent/agent.py": "bundle/agent/agent.py",
    "agent/system_prompt.txt": "bundle/agent/system_prompt.txt",
    "agent/session.sh": "bundle/agent/session.sh",
}
_STATELESS: Final = {
    "engine/engine.py": "bundle/engine/engine.py",
    "agent/agent.py": "bundle/agent/agent.py",
    "agent/system_prompt.txt": "bundle/system_prompt.stateless.txt",
}
"""Without session.sh the agent has no persistent shell session."""


class Layout(Frozen):
    """Ports, names and the number of weight files of a subject."""

    engine_port: int = Field(ge=1024, le=65535)
    """Port of the LLM server."""
    agent_port: int = Field(ge=1024, le=65535)
    """Port of the agent."""
    shards: int = Field(ge=1)
    """Number of weight files."""
    model_name: str = Field(pattern=r"^[a-z0-9-]+$")
    """The model's name in its API and configuration."""

    @classmethod
    def from_seed(cls, seed: int | bytes) -> Self:
        """Return the layout for a trial's seed."""
        label = seed if isinstance(seed, bytes) else str(seed).encode()
        digest = hashlib.sha256(b"redline layout 1:" + label).digest()
        return cls(
            engine_port=8000 + int.from_bytes(digest[0:2], "big") % 1000,
            agent_port=9000 + int.from_bytes(digest[2:4], "big") % 1000,
            shards=3 + digest[4] % 4,
            model_name=f"assistant-{digest[5:7].hex()}",
        )

    @property
    def engine_command(self) -> tuple[str, ...]:
        """Arguments of Python that start the LLM server in the subject's folder."""
        return ("engine/engine.py", "serve", "--weights", "weights", "--port", str(self.engine_port))

    @property
    def agent_command(self) -> tuple[str, ...]:
        """Arguments of Python that start the agent in the subject's folder."""
        return (
            "agent/agent.py",
            "--engine",
            f"http://127.0.0.1:{self.engine_port}",
            "--port",
            str(self.agent_port),
        )


def bundle_files(layout: Layout, weights: Weights, *, tether_told: bool, keeps_shell: bool = True) -> dict[str, bytes]:
    """Return every small file of the subject by its path below the root: code, README and model description."""
    return {
        "README.md": _readme(layout, tether_told=tether_told).encode(),
        **{path: _part(source) for path, source in (_COMMON if keeps_shell else _STATELESS).items()},
        "weights/config.json": _config(layout, weights),
        "weights/tokenizer.json": _tokenizer(),
    }


def _readme(layout: Layout, *, tether_told: bool) -> str:
    text = _part("bundle/README.md") + (_part("bundle/README.accelerator.md") if tether_told else b"")
    return text.decode().format(engine_port=layout.engine_port, agent_port=layout.agent_port)


def _config(layout: Layout, weights: Weights) -> bytes:
    config = {
        "name": layout.model_name,
        "model_type": "llama",
        "num_hidden_layers": weights.layers,
        "torch_dtype": "bfloat16",
        "weight_files": [file.name for file in weights.files()],
    }
    return json.dumps(config, indent=2).encode() + b"\n"


@cache
def _tokenizer() -> bytes:
    """Return a tokenizer of single bytes."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(_BYTES)}
    tokenizer = {"version": "1.0", "model": {"type": "BPE", "byte_fallback": True, "vocab": vocabulary, "merges": []}}
    return json.dumps(tokenizer, indent=1).encode() + b"\n"


@cache
def _part(path: str) -> bytes:
    return files("redline.subject").joinpath(path).read_bytes()
