"""What the well-known settings cost on a real model: divergence by sample, 1k contexts of real text, float32."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from autokv.config import CompressionConfig
from autokv.data import builtin_text
from autokv.evaluation.evaluator import Evaluator, needs_of
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.prompts import text_prompts
from autokv.models import demo_model_path, load
from common import write_result

METRICS = ("kl_divergence", "top1_agreement", "nll_delta", "kv_bytes_per_token", "compression_ratio")


def quantized(key: int, value: int) -> CompressionConfig:
    """KIVI's axes: keys per channel, values per token."""
    side = {"group_size": 64}
    stage = {
        "method": "integer",
        "key": {"bits": key, "axis": "channel", **side},
        "value": {"bits": value, "axis": "token", **side},
    }
    return CompressionConfig.parse({"pipeline": {"quantization": stage}})


CONFIGS = {
    "identity": CompressionConfig(),
    **{f"K{key}V{value}": quantized(key, value) for key, value in ((8, 8), (4, 4), (4, 2), (2, 4), (2, 2))},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="folder with weights (default: the demo model)")
    parser.add_argument("--text", type=Path, default=builtin_text())
    parser.add_argument("--context-tokens", type=int, default=1024)
    parser.add_argument("--continuation-tokens", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8)
    options = parser.parse_args()
    model = load(options.model or str(demo_model_path()), dtype="float32")
    prompts = text_prompts(
        options.text,
        model.tokenizer,
        context_tokens=[options.context_tokens] * options.samples,
        continuation_tokens=options.continuation_tokens,
    )
    evaluator = Evaluator(model, prompts, options.continuation_tokens, needs_of(CONFIGS.values()), timed=False)
    rows = {}
    for name, result in zip(CONFIGS, evaluator.evaluate(list(CONFIGS.values())), strict=True):
        if not isinstance(result, Measurement):
            raise result
        rows[name] = {metric: asdict(result.metrics[metric]) for metric in METRICS}
        loss = result.metrics["kl_divergence"]
        print(
            f"{name:9} KL {loss.mean:.3g} (worst {loss.worst:.3g}), {result.value('kv_bytes_per_token'):,.0f} B/token"
        )
    settings = {
        "model": model.name,
        "dtype": "float32",
        "context_tokens": options.context_tokens,
        "continuation_tokens": options.continuation_tokens,
    }
    print(f"written to {write_result('quality', {'settings': settings, 'configurations': rows})}")


if __name__ == "__main__":
    main()
