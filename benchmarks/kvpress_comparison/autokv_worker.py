"""AutoKV's side of the comparison: prefill once per prompt, then judge configurations.

Usage: ``python autokv_worker.py MODEL_FOLDER``, spoken to through ``wire``.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from typing import Any

from autokv.config import CompressionConfig
from autokv.errors import AutoKVError
from autokv.evaluation.evaluator import Evaluator, needs_of
from autokv.evaluation.prompt import Prompt
from autokv.evaluation.prompts import text_prompts
from autokv.models import load
from wire import serve

# What each press of kvpress keeps in any case: its sinks, and the newest tokens beyond its observation window.
ALWAYS_KEPT = {
    "expected_attention": (4, 0),
    "keydiff": (0, 0),
    "knorm": (0, 0),
    "lagkv": (4, 0),
    "snapkv": (0, 0),
    "streaming_llm": (4, 0),
    "tova": (0, 1),
}


def configuration(method: str, keep_ratio: float) -> CompressionConfig:
    """The configuration that keeps as many tokens as kvpress' press of that name, with its defaults."""
    sink_tokens, recent_tokens = ALWAYS_KEPT[method]
    stage = {
        "method": method,
        "keep_ratio": keep_ratio,
        "sink_tokens": sink_tokens,
        "recent_tokens": recent_tokens,
    }
    return CompressionConfig.parse({"pipeline": {"eviction": stage}})


class AutoKV:
    """One model and the prompt at hand."""

    def __init__(self, folder: str) -> None:
        self.model = load(folder, dtype="float32", device="cpu")
        self.evaluator: Evaluator | None = None

    def versions(self) -> dict[str, str]:
        return {package: version(package) for package in ("autokv", "torch", "transformers")}

    def prompts(self, text: str, context_tokens: int, continuation_tokens: int, count: int) -> list[dict[str, Any]]:
        """Token ids of the first ``count`` samples of a text file; both sides are given the same."""
        prompts = text_prompts(
            text,
            self.model.tokenizer,
            context_tokens=[context_tokens] * count,
            continuation_tokens=continuation_tokens,
        )
        return [{"id": prompt.id, "context": prompt.context, "continuation": prompt.continuation} for prompt in prompts]

    def prompt(self, context: list[int], continuation: list[int]) -> dict[str, float]:
        """Take up a prompt: one prefill with everything that any of the methods needs, and the reference."""
        needs = needs_of([configuration(method, 0.5) for method in ALWAYS_KEPT])
        prompt = Prompt("prompt", "text", tuple(context), tuple(continuation))
        start = time.perf_counter()
        self.evaluator = Evaluator(self.model, [prompt], len(continuation), needs, timed=False)
        return {"prefill_seconds": time.perf_counter() - start}

    def run(self, methods: list[str], keep_ratio: float) -> dict[str, Any]:
        """Judge one configuration per method in one call: seconds of all, and each one's KL and compression ratio."""
        if self.evaluator is None:
            raise RuntimeError("ask for a prompt first")
        configs = [configuration(method, keep_ratio) for method in methods]
        start = time.perf_counter()
        judged = self.evaluator.evaluate(configs)
        seconds = time.perf_counter() - start
        measurements = []
        for measurement in judged:
            if isinstance(measurement, AutoKVError):
                raise measurement
            measurements.append(measurement)
        return {
            "seconds": seconds,
            "kl": [measurement.value("kl_divergence") for measurement in measurements],
            "compression_ratio": [measurement.value("compression_ratio") for measurement in measurements],
        }


if __name__ == "__main__":
    autokv = AutoKV(sys.argv[1])
    serve({"versions": autokv.versions, "prompts": autokv.prompts, "prompt": autokv.prompt, "run": autokv.run})
