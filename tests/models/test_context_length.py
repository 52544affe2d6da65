"""The longest context, as the configurations of published models state it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from autokv import settings
from autokv.models import offered
from autokv.models.context import context_tokens
from autokv.models.inspection import facts_of

LONG = {"rope_type": "longrope", "original_max_position_embeddings": 4096, "short_factor": [1.0], "long_factor": [2.0]}
LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
PUBLISHED: dict[str, tuple[int, dict[str, Any], int]] = {
    "Llama 2": (4096, {}, 4096),
    "Qwen2.5 with its recipe": (
        32768,
        {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
        131072,
    ),
    "Qwen3 with its recipe": (
        40960,
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
        131072,
    ),
    "YaRN without its original length": (32768, {"rope_type": "yarn", "factor": 4.0}, 131072),
    "DeepSeek-V3": (163840, {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}, 163840),
    "gpt-oss": (131072, {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096}, 131072),
    "Llama 3.1": (131072, {**LLAMA3, "factor": 8.0, "original_max_position_embeddings": 8192}, 131072),
    "Llama 3.2": (131072, {**LLAMA3, "factor": 32.0, "original_max_position_embeddings": 8192}, 131072),
    "Phi-3-mini-128k": (131072, LONG, 131072),
    "dynamic": (4096, {"rope_type": "dynamic", "factor": 2.0}, 8192),
    "DeepSeek-Coder": (16384, {"type": "linear", "factor": 4.0}, 16384),
    "Gemma 3": (
        131072,
        {
            "full_attention": {"rope_type": "linear", "factor": 8.0},
            "sliding_attention": {"rope_type": "yarn", "factor": 8.0},
        },
        131072,
    ),
    "a factor that shortens nothing": (4096, {"rope_type": "dynamic", "factor": 0.5}, 4096),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_configurations(model: str) -> None:
    max_positions, rope, expected = PUBLISHED[model]
    assert context_tokens(max_positions, rope) == expected


def test_facts_and_offers_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    max_positions, rope, expected = PUBLISHED["Qwen3 with its recipe"]
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "vocab_size": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = AutoConfig.for_model(
        "qwen3",
        **shape,
        **heads,
        max_position_embeddings=max_positions,
        rope_scaling=rope,
    )
    assert facts_of(config, "qwen3").context_tokens == expected
    for name, written in (("new", "rope_parameters"), ("old", "rope_scaling")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
        document = {"model_type": "qwen3", "max_position_embeddings": max_positions, written: rope}
        (tmp_path / name / "config.json").write_text(json.dumps(document))
    monkeypatch.setenv("AUTOKV_MODEL_ROOTS", str(tmp_path))
    found = {model.name: model.context_tokens for model in offered.offered(settings.current())}
    assert (found["new"], found["old"]) == (expected, expected)
