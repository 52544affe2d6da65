"""llama.cpp by xllamacpp: one request per token of the continuation, behind a cached prompt.

``q4_0:q8_0`` is the type of keys and of values; ``:plain`` behind them switches llama.cpp's rotation off. A server
tells the log-probabilities of its most likely tokens only.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import xllamacpp
from worker import Judge, work

TOLD = 2000


def judge(task: dict[str, Any]) -> Judge:
    vocabulary = task["vocabulary"]

    def judged(name: str) -> tuple[list[np.ndarray], float | None]:
        key, value, *plain = name.split(":")
        os.environ.pop("LLAMA_ATTN_ROT_DISABLE", None)
        if plain:
            os.environ["LLAMA_ATTN_ROT_DISABLE"] = "1"
        with tempfile.TemporaryFile() as log:
            server = _logging_to(log.fileno(), lambda: _server(task["gguf"], key, value))
            log.seek(0)
            size = re.search(rb"size = +([\d.]+) MiB \( *(\d+) cells", log.read())
        rows = [_sample(server, sample, vocabulary) for sample in task["samples"]]
        return rows, float(size[1]) * 2**20 / int(size[2]) if size else None

    return judged


def _server(gguf: str, key: str, value: str) -> Any:
    options = xllamacpp.CommonParams()
    options.model.path = gguf
    options.n_ctx, options.n_parallel = 2048, 1
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    options.cache_type_k = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{key.upper()}")
    options.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{value.upper()}")
    options.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    options.warmup, options.cache_ram_mib = False, 0
    return xllamacpp.Server(options)


def _logging_to(descriptor: int, start: Callable[[], Any]) -> Any:
    """What ``start`` gives, what it writes to standard error and output kept in a file."""
    kept = [os.dup(stream) for stream in (1, 2)]
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    try:
        return start()
    finally:
        for stream, old in zip((1, 2), kept, strict=True):
            os.dup2(old, stream)
            os.close(old)


def _sample(server: Any, sample: dict[str, list[int]], vocabulary: int) -> np.ndarray:
    ids, rows = list(sample["context"]), np.full((len(sample["continuation"]), vocabulary), np.nan)
    for place, token in enumerate(sample["continuation"]):
        ids.append(token)
        answer = server.handle_completions(
            {
                "prompt": ids,
                "max_tokens": 1,
                "temperature": 1.0,
                "samplers": [],
                "logprobs": TOLD,
                "n_probs": TOLD,
                "cache_prompt": True,
                "ignore_eos": True,
                "seed": 1,
            }
        )
        for told in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            rows[place, told["id"]] = told["logprob"]
    return rows


if __name__ == "__main__":
    work(f"xllamacpp {version('xllamacpp')}", judge)
