"""Every kind of model that cannot be compressed is refused by name, with why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from autokv.errors import ModelError
from autokv.models import inspect

SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "bos_token_id": 1}
HEADS = {**SMALL, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 2}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "deepseek_v2": ("deepseek_v2", {}, "MLA"),
    "deepseek_v3": ("deepseek_v3", {}, "MLA"),
    "minicpm3": ("minicpm3", {}, "MLA"),
    "mamba": ("mamba", {}, "state-space"),
    "falcon_mamba": ("falcon_mamba", {}, "state-space"),
    "mamba2": ("mamba2", {}, "state-space"),
    "rwkv": ("rwkv", {}, "state-space"),
    "jamba": ("jamba", {}, "state-space"),
    "bamba": ("bamba", {}, "state-space"),
    "recurrent_gemma": ("recurrent_gemma", {}, "state-space"),
    "qwen3_next": ("qwen3_next", {}, "state-space"),
    "falcon_h1": ("falcon_h1", {}, "state-space"),
    "minimax": ("minimax", {}, "linear_attention"),
    "lfm2": ("lfm2", {**HEADS, "layer_types": ["conv", "full_attention"]}, "conv"),
    "llama4": ("llama4_text", {**HEADS, "attention_chunk_size": 16}, "chunked_attention"),
    "jetmoe": ("jetmoe", {"num_hidden_layers": 2}, "repeats itself"),
    "bert": ("bert", {}, "an encoder"),
    "roberta": ("roberta", {}, "an encoder"),
    "bert-generation": ("bert-generation", {}, "an encoder"),
    "t5": ("t5", {}, "an encoder-decoder"),
    "bart": ("bart", {}, "an encoder-decoder"),
    "whisper": ("whisper", {}, "an encoder-decoder"),
    "vit": ("vit", {}, "not a causal language model"),
    "gpt_oss": ("gpt_oss", {**HEADS, "num_local_experts": 2, "num_experts_per_tok": 1}, "learned attention sinks"),
    "bloom": ("bloom", {}, "attention that transformers does not let others compute"),
    "falcon": ("falcon", {}, "attention that transformers does not let others compute"),
    "diffllama": ("diffllama", HEADS, "differential attention"),
    "mllama": ("mllama", {}, "cross-attention layers"),
    "gemma3n": ("gemma3n_text", {}, "share their keys and values"),
    "gemma4": ("gemma4_text", {}, "gemma4_text cannot be compressed"),
    "all-sliding-mistral": ("mistral", {**HEADS, "sliding_window": 16}, "window of 16 tokens"),
    "all-sliding-phi3": ("phi3", {**HEADS, "sliding_window": 16}, "window of 16 tokens"),
    "all-sliding-types": (
        "qwen3",
        {**HEADS, "use_sliding_window": True, "sliding_window": 16, "layer_types": ["sliding_attention"] * 2},
        "window of 16 tokens",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(tmp_path: Path, case: str) -> None:
    model_type, changes, why = REFUSED[case]
    folder = tmp_path / "refused"
    AutoConfig.for_model(model_type, **changes).save_pretrained(folder)
    with pytest.raises(ModelError) as refusal:
        inspect(str(folder))
    assert why in str(refusal.value)
    assert model_type in str(refusal.value)
    assert "\n" not in str(refusal.value)


HYBRID = {
    **HEADS,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "num_local_experts": 0,
    "num_experts_per_tok": 0,
    "shared_intermediate_size": 48,
}
FULL: dict[str, tuple[str, dict[str, Any]]] = {
    "a window as long as the context, as in Phi-4-mini": (
        "phi3",
        {**HEADS, "max_position_embeddings": 1024, "sliding_window": 1024},
    ),
    "a window as long as the extended context": (
        "qwen3",
        {
            **HEADS,
            "max_position_embeddings": 256,
            "use_sliding_window": True,
            "sliding_window": 1024,
            "layer_types": ["sliding_attention"] * 2,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
        },
    ),
    "a hybrid with attention alone, as granite-4.0-micro": (
        "granitemoehybrid",
        {**HYBRID, "layer_types": ["attention", "attention"]},
    ),
}


@pytest.mark.parametrize("case", FULL)
def test_full_attention_under_another_name(tmp_path: Path, case: str) -> None:
    model_type, changes = FULL[case]
    AutoConfig.for_model(model_type, **changes).save_pretrained(tmp_path)
    facts = inspect(str(tmp_path))
    assert (facts.full_layers, facts.sliding_window, facts.windowed_kv_bytes) == ((0, 1), None, 0)


def test_a_window_shorter_than_the_extended_context_stays_one(tmp_path: Path) -> None:
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 256}
    config = AutoConfig.for_model(
        "qwen3",
        **HEADS,
        max_position_embeddings=256,
        use_sliding_window=True,
        sliding_window=512,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters=rope,
    )
    config.save_pretrained(tmp_path)
    facts = inspect(str(tmp_path))
    assert (facts.context_tokens, facts.full_layers, facts.sliding_window) == (1024, (1,), 512)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 3}, "4 query heads cannot share 3 KV heads"),
        ({"num_key_value_heads": 0}, "num_key_value_heads of llama is 0"),
        ({"max_position_embeddings": -1}, "max_position_embeddings of llama is -1"),
        ({"num_hidden_layers": 2000}, "num_hidden_layers is 2000, more than 1024"),
        ({"vocab_size": 1 << 30}, "vocab_size is 1073741824, more than"),
        ({"model_type": "not_a_model"}, "config.json cannot be read"),
        ({"num_attention_heads": "four"}, "cannot be read"),
    ],
)
def test_sizes_that_make_no_model_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    AutoConfig.for_model("llama", **HEADS).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ModelError, match=message):
        inspect(str(tmp_path))
