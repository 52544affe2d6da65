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
