"""transformers' own caches: ``quanto@4``, ``quanto@4@axis=-1`` (both axes), ``hqq@4``, ``fp8``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache, QuantizedCache
from worker import Judge, log_softmax, work


def judge(task: dict[str, Any]) -> Judge:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    model = AutoModelForCausalLM.from_pretrained(task["folder"], dtype=torch.float32).eval()

    def judged(name: str) -> tuple[list[np.ndarray], float | None]:
        found = [_sample(model, name, sample) for sample in task["samples"]]
        return [rows for rows, _ in found], found[0][1]

    return judged


def _sample(model: Any, name: str, sample: dict[str, list[int]]) -> tuple[np.ndarray, float | None]:
    backend, *options = name.split("@")
    if backend == "dynamic":
        cache: Any = DynamicCache(config=model.config)
    else:
        settings: dict[str, Any] = {"nbits": int(options[0])} if options else {}
        if backend in ("quanto", "hqq"):
            settings["q_group_size"] = 64
        axis = next((option.removeprefix("axis=") for option in options[1:]), None)
        if axis is not None:
            settings |= {"axis_key": int(axis), "axis_value": int(axis)}
        elif backend == "hqq":
            settings |= {"axis_key": 1, "axis_value": 1}
        cache = QuantizedCache(backend, model.config, **settings)
    model(torch.tensor([sample["context"]]), past_key_values=cache, logits_to_keep=1)
    nbytes = _nbytes(cache) / len(sample["context"]) if backend != "dynamic" else None
    # New tokens are held as they are, or by the prompt's scales: all at once they see what they see one by one.
    logits = model(torch.tensor([sample["continuation"]]), past_key_values=cache).logits[0].numpy()
    return log_softmax(logits), nbytes


def _nbytes(cache: Any) -> int:
    """Of the prompt's codes, scales and zero points."""
    return sum(_size(layer._quantized_keys) + _size(layer._quantized_values) for layer in cache.layers)


def _size(held: Any) -> int:
    if isinstance(held, (tuple, list)):
        return sum(map(_size, held))
    if isinstance(held, dict):
        return sum(map(_size, held.values()))
    parts = [getattr(held, name) for name in ("_data", "_scale", "_shift") if hasattr(held, name)]
    if isinstance(held, torch.Tensor) and not parts:
        return held.numel() * held.element_size()
    return sum(map(_size, parts))


if __name__ == "__main__":
    work(f"transformers {transformers.__version__}", judge)
