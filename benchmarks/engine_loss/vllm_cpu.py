"""vLLM on a CPU, its engine in this process: ``fp8_e4m3``, ``fp8_e4m3+skip=0,1``."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent.resolve()]
import numpy as np  # noqa: E402
from vllm import LLM, SamplingParams  # noqa: E402

sys.path.append(str(Path(__file__).parent))
from worker import Judge, log_softmax, work  # noqa: E402

SEEN: list[np.ndarray] = []


def judge(task: dict[str, Any]) -> Judge:
    def judged(name: str) -> tuple[list[np.ndarray], float | None]:
        kind, _, skipped = name.partition("+skip=")
        more = {"kv_cache_dtype_skip_layers": skipped.split(",")} if skipped else {}
        engine = LLM(
            model=task["folder"],
            kv_cache_dtype=kind,
            dtype="float32",
            max_model_len=1280,
            max_num_batched_tokens=1280,
            max_num_seqs=1,
            enforce_eager=True,
            enable_prefix_caching=False,
            **more,
        )
        engine.apply_model(_listen)
        rows = [_sample(engine, sample) for sample in task["samples"]]
        tokens = engine.llm_engine.vllm_config.cache_config.kv_cache_size_tokens
        del engine
        return rows, 2**30 / tokens if tokens else None

    return judged


def _listen(model: Any) -> None:
    """Keep every logit that the model computes."""
    compute = model.compute_logits

    def computed(hidden: Any, *rest: Any, **named: Any) -> Any:
        logits = compute(hidden, *rest, **named)
        SEEN.append(logits.detach().float().numpy().copy())
        return logits

    model.compute_logits = computed


def _sample(engine: Any, sample: dict[str, list[int]]) -> np.ndarray:
    SEEN.clear()
    ids, judged = sample["context"] + sample["continuation"], len(sample["continuation"])
    options = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
    engine.generate([{"prompt_token_ids": ids}], options, use_tqdm=False)
    prompt = np.concatenate([logits for logits in SEEN if len(logits) > 1])[: len(ids) - 1]
    last = [logits for logits in SEEN if len(logits) == 1][-1]
    return log_softmax(np.concatenate([prompt, last])[-judged:])


if __name__ == "__main__":
    work(f"vllm-cpu {version('vllm-cpu')}", judge)
