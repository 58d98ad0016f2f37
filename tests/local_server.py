"""A real OpenAI-compatible server: that of llama.cpp, with a model of random weights that is created in milliseconds.

As a program, `python tests/local_server.py MODEL.gguf` prints its address and serves until it is killed.
"""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

CONTEXT = 65_536
TOKENS_OF_AN_ANSWER = 48
WIDTH, INNER, HEADS = 64, 128, 4
START_SECONDS = 30


def write_model(path: Path) -> None:
    """Write a Llama model of one layer with random weights, whose tokens are bytes."""
    random = np.random.default_rng(0)
    specials = [b"<unk>", b"<s>", b"</s>"]
    tokens = specials + [f"<0x{byte:02X}>".encode() for byte in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    shapes = {
        "token_embd": (len(tokens), WIDTH),
        "output": (len(tokens), WIDTH),
        "blk.0.attn_q": (WIDTH, WIDTH),
        "blk.0.attn_k": (WIDTH, WIDTH),
        "blk.0.attn_v": (WIDTH, WIDTH),
        "blk.0.attn_output": (WIDTH, WIDTH),
        "blk.0.ffn_gate": (INNER, WIDTH),
        "blk.0.ffn_up": (INNER, WIDTH),
        "blk.0.ffn_down": (WIDTH, INNER),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", (random.standard_normal(shape) * 0.05).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextlib.contextmanager
def local_server(folder: Path) -> Iterator[str]:
    """Serve such a model in a separate process during the block; yield its address."""
    model = folder / "random.gguf"
    write_model(model)
    with (folder / "server.log").open("wb") as log:
        command = [sys.executable, __file__, str(model)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), (folder / "server.log").read_text()
        yield address
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def serve(model: str) -> None:
    """Serve the model on a free port of the loopback interface until the process is killed."""
    settings = xllamacpp.CommonParams()
    settings.model.path = model
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.n_ctx = CONTEXT
    settings.n_parallel = 1
    settings.n_predict = TOKENS_OF_AN_ANSWER
    settings.cpuparams.n_threads = 1
    settings.n_gpu_layers = 0
    settings.warmup = False
    settings.use_jinja = True
    settings.ui = False
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    serve(sys.argv[1])
