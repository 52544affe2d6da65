"""OpenVINO's CPU plug-in on the GGUF: ``u4``, ``u8@32`` (group size), ``u8/u4`` (keys and values)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
from worker import Judge, log_softmax, work

BITS = {"f32": 32, "f16": 16, "u8": 8, "u4": 4}


def judge(task: dict[str, Any]) -> Judge:
    core = openvino.Core()
    graph = Path(task["gguf"]).with_name("openvino_model.xml")
    # OpenVINO GenAI alone reads GGUF; it writes the graph beside the file.
    openvino_genai.LLMPipeline(task["gguf"], "CPU", enable_save_ov_model=True)
    model = core.read_model(graph)
    known = {port.any_name for port in model.inputs}

    def judged(name: str) -> tuple[list[np.ndarray], float | None]:
        properties = {
            "INFERENCE_NUM_THREADS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        precision, _, group = name.partition("@")
        key, _, value = precision.partition("/")
        properties["KEY_CACHE_PRECISION"], properties["VALUE_CACHE_PRECISION"] = key, value or key
        if group:
            properties["KEY_CACHE_GROUP_SIZE"] = properties["VALUE_CACHE_GROUP_SIZE"] = int(group)
        request = core.compile_model(model, "CPU", properties).create_infer_request()
        return [_sample(request, known, sample) for sample in task["samples"]], None

    return judged


def _sample(request: Any, known: set[str], sample: dict[str, list[int]]) -> np.ndarray:
    request.reset_state()
    done = 0
    for ids in (sample["context"], sample["continuation"]):
        inputs = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, done + len(ids)), np.int64),
            "position_ids": np.arange(done, done + len(ids), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        found = request.infer({name: value for name, value in inputs.items() if name in known})
        done += len(ids)
    logits = np.array(next(iter(found.values())))[0, -len(sample["continuation"]) :]
    return log_softmax(logits)


if __name__ == "__main__":
    work(f"openvino {openvino.__version__}", judge)
