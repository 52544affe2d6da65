"""Models that differ most in how they attend: each judged and generated from as transformers runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import DynamicLayer

from autokv import CompressedCache, CompressionConfig
from autokv.compression import StatisticsNeeded
from autokv.errors import ModelError
from autokv.evaluation.continuation import FullContext, continuation_logits
from autokv.evaluation.prompt import Prompt
from autokv.evaluation.snapshot import take_snapshot
from autokv.kernels.backend import CPU
from autokv.models import load
from autokv.runtime.attention import attending, install

MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
WINDOWED = {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention", "full_attention"]}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "mask by keyword, sliding windows": ("afmoe", {**MOE, **WINDOWED}),
    "layers that drop keyword arguments": ("nemotron", {}),
    "a window as long as the context": ("phi3", {"sliding_window": 1024}),
    "a hybrid with attention alone": (
        "granitemoehybrid",
        {
            "layer_types": ["attention"] * 3,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": 96,
            "attention_multiplier": 0.1,
        },
    ),
    "soft-capped logits": ("gemma2", {}),
    "no rotary embedding in some layers": ("smollm3", {}),
    "parallel blocks": ("cohere", {}),
    "stretched positions": (
        "llama",
        {
            "max_position_embeddings": 256,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 256,
            },
        },
    ),
}


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_the_reference_and_the_cache_are_the_plain_model(
    case: str, tiny_model_folder: Callable[..., Path], ids: Callable[..., torch.Tensor]
) -> None:
    family, changes = ARCHITECTURES[case]
    folder = tiny_model_folder(family, **changes)
    text = ids(1, 60)
    context, rest = text[0, :48].tolist(), text[0, 48:].tolist()
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        expected = plain(text, use_cache=False).logits[0]
        held = DynamicCache(config=plain.config)
        plain(text, past_key_values=held)
        loaded = load(str(folder))
        cache = CompressedCache.from_config(loaded.model, CompressionConfig())
        steps = [loaded.model(text[:, :48], past_key_values=cache).logits[0, -1]]
        steps += [loaded.model(text[:, [i]], past_key_values=cache).logits[0, -1] for i in range(48, 60)]
        install(loaded.model)
        snapshot = take_snapshot(loaded, Prompt("text", "text", tuple(context)), StatisticsNeeded(), CPU)
        reference = continuation_logits(loaded, snapshot, rest, [FullContext(snapshot.next_logits)])[0]
    torch.testing.assert_close(reference, expected[48:], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(snapshot.next_logits, expected[47], rtol=1e-3, atol=1e-3)
    # Through a cache that holds 16 bits.
    torch.testing.assert_close(torch.stack(steps), expected[47:], rtol=0.05, atol=0.05)
    facts = loaded.facts
    for layer, kind, recorded in zip(held.layers, facts.layer_kinds, snapshot.layers, strict=True):
        assert isinstance(layer, DynamicLayer)
        assert layer.keys is not None
        assert recorded.keys.shape[1] == layer.keys.shape[1] == facts.kv_heads
        assert recorded.keys.shape[2] == (48 if kind == "full" else facts.sliding_window)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 4}, "attends in layers"),
        ({"kv_heads": 4}, "keys of 2 heads × 16, and states 4 × 16"),
        (
            {"layer_kinds": ("full",) * 3, "sliding_window": None},
            "a sliding window of 24 tokens in layer 0, and states None",
        ),
        ({"sliding_window": 16}, "a sliding window of 24 tokens in layer 0, and states 16"),
    ],
)
def test_a_model_that_attends_otherwise_than_it_states_is_refused(
    changes: dict[str, Any], message: str, tiny_model_folder: Callable[..., Path], ids: Callable[..., torch.Tensor]
) -> None:
    loaded = load(str(tiny_model_folder("gemma3_text")))
    install(loaded.model)
    wrong = replace(loaded, facts=replace(loaded.facts, **changes))
    with pytest.raises(ModelError, match=message):
        take_snapshot(wrong, Prompt("text", "text", tuple(ids(1, 40)[0].tolist())), StatisticsNeeded(), CPU)


def test_a_pass_that_never_asks_for_attention_is_refused(tiny_model_folder: Callable[..., Path]) -> None:
    loaded = load(str(tiny_model_folder("llama")))
    install(loaded.model)
    loaded.model.set_attn_implementation("sdpa")
    with pytest.raises(ModelError, match=r"attends in layers \[\], and has 3"), torch.inference_mode():
        take_snapshot(loaded, Prompt("text", "text", (1, 2, 3)), StatisticsNeeded(), CPU)


def test_what_a_mode_does_not_add_is_refused(tiny_model_folder: Callable[..., Path]) -> None:
    loaded = load(str(tiny_model_folder("llama")))
    install(loaded.model)
    attention = AttentionInterface()["autokv"]

    class Mode:
        def attend(self, call: Any) -> torch.Tensor:  # noqa: ANN401
            raise AssertionError("reached")

    query, key = torch.zeros(1, 4, 2, 16), torch.zeros(1, 2, 2, 16)
    module = next(part for part in loaded.model.modules() if getattr(part, "layer_idx", None) == 0)
    with pytest.raises(ModelError, match="adds s_aux"), attending(Mode(), loaded.facts):
        attention(module, query, key, key, None, s_aux=torch.zeros(4))
