"""The kvpress side: prefill under a press, then the continuation in one forward pass, in kvpress' own environment.

Usage: ``python kvpress_worker.py MODEL_FOLDER``, spoken to through ``wire``. Only weights and configuration are read
from the folder; prompts come as token ids, since tokenizers do not travel between transformers versions.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from typing import Any

import torch
from kvpress import (
    ExpectedAttentionPress,
    KeyDiffPress,
    KnormPress,
    LagKVPress,
    SnapKVPress,
    StreamingLLMPress,
    TOVAPress,
)
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache

from wire import serve

PRESSES = {
    "expected_attention": ExpectedAttentionPress,
    "keydiff": KeyDiffPress,
    "knorm": KnormPress,
    "lagkv": LagKVPress,
    "snapkv": SnapKVPress,
    "streaming_llm": StreamingLLMPress,
    "tova": TOVAPress,
}


class KVPress:
    """One model and the prompt at hand."""

    def __init__(self, folder: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.context = self.continuation = torch.empty(0)
        self.reference = torch.empty(0)

    def versions(self) -> dict[str, str]:
        return {package: version(package) for package in ("kvpress", "torch", "transformers")}

    @torch.inference_mode()
    def prompt(self, context: list[int], continuation: list[int]) -> dict[str, float]:
        """Take up a prompt: its log-probabilities under the full cache are what the presses are judged against."""
        self.context, self.continuation = torch.tensor([context]), torch.tensor([continuation])
        start = time.perf_counter()
        cache = DynamicCache()
        self.model.model(input_ids=self.context, past_key_values=cache)
        prefilled = time.perf_counter()
        self.reference = self._continue(cache)
        return {"prefill_seconds": prefilled - start}

    @torch.inference_mode()
    def run(self, method: str, keep_ratio: float) -> dict[str, Any]:
        """One (method, prompt): seconds of prefill and continuation, mean KL in nats per token, tokens kept."""
        # kvpress keeps int(tokens * (1 - ratio)); the hair keeps a rounding error from taking a token.
        press = PRESSES[method](compression_ratio=1 - keep_ratio - 1e-9)
        start = time.perf_counter()
        cache = DynamicCache()
        with press(self.model):
            self.model.model(input_ids=self.context, past_key_values=cache)
        kept = [list(layer.keys.shape[1:3]) for layer in cache.layers]
        logprobs = self._continue(cache)
        seconds = time.perf_counter() - start
        divergence = (self.reference.exp() * (self.reference - logprobs)).sum(-1).mean()
        return {"seconds": seconds, "kl": float(divergence), "kept_heads_tokens": kept}

    def _continue(self, cache: DynamicCache) -> Tensor:
        positions = torch.arange(self.continuation.shape[1])[None] + self.context.shape[1]
        logits = self.model(input_ids=self.continuation, past_key_values=cache, position_ids=positions).logits
        return torch.log_softmax(logits[0].float(), dim=-1)


if __name__ == "__main__":
    kvpress = KVPress(sys.argv[1])
    serve({"versions": kvpress.versions, "prompt": kvpress.prompt, "run": kvpress.run})
