"""Facts from a configuration, held against the model that transformers really builds from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from autokv.models import ModelFacts, inspect

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
SLIDING_FULL = ["sliding_attention", "full_attention"]
FAMILIES: dict[str, tuple[str, dict[str, object]]] = {
    "llama-mha": ("llama", {"num_key_value_heads": 4}),
    "llama-gqa": ("llama", {}),
    "llama-mqa": ("llama", {"num_key_value_heads": 1}),
    "llama-odd-head-dim": ("llama", {"head_dim": 20}),
    "llama-untied": ("llama", {"tie_word_embeddings": False}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-yarn": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "qwen2": ("qwen2", {"sliding_window": 16}),
    "qwen2-sliding": ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "mistral": ("mistral", {"sliding_window": None}),
    "phi3": ("phi3", {}),
    "gemma2": ("gemma2", {"head_dim": 8, "sliding_window": 16}),
    "gemma3": ("gemma3_text", {"head_dim": 8, "sliding_window": 16, "layer_types": SLIDING_FULL}),
    "gpt2": ("gpt2", {"num_key_value_heads": None}),
    "gpt-neox": ("gpt_neox", {"num_key_value_heads": None}),
    "gpt-bigcode": ("gpt_bigcode", {"num_key_value_heads": None, "multi_query": True}),
    "olmoe": ("olmoe", {"num_experts": 4, "num_experts_per_tok": 2}),
}
LEARNED_POSITIONS = {"gpt2", "gpt-bigcode"}


@pytest.fixture(scope="module", params=FAMILIES)
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, PreTrainedModel, ModelFacts]:
    model_type, changes = FAMILIES[request.param]
    values = {**SHAPE, **changes}
    config = AutoConfig.for_model(
        model_type, **{key: value for key, value in values.items() if value is not None or key == "sliding_window"}
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    folder = tmp_path_factory.mktemp("facts") / request.param
    config.save_pretrained(folder)
    return request.param, model, inspect(str(folder))


def test_shapes_are_those_of_the_cache_that_the_model_fills(built: tuple[str, PreTrainedModel, ModelFacts]) -> None:
    _, model, facts = built
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(torch.arange(5)[None] % 64, past_key_values=cache, use_cache=True)
    layers = [layer for layer in cache.layers if isinstance(layer, DynamicLayer)]
    assert len(layers) == len(cache.layers) == facts.layers
    for layer in layers:
        assert layer.keys is not None
        assert layer.values is not None
        assert layer.keys.shape == layer.values.shape == (1, facts.kv_heads, 5, facts.head_dim)
    windowed = tuple(index for index, layer in enumerate(layers) if layer.is_sliding)
    assert tuple(sorted({*range(facts.layers)} - {*windowed})) == facts.full_layers
    windows = {layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)}
    assert windows <= {facts.sliding_window}


def test_parameters_are_what_the_built_model_holds(built: tuple[str, PreTrainedModel, ModelFacts]) -> None:
    _, model, facts = built
    storages = {parameter.data_ptr(): parameter.numel() for parameter in model.parameters()}
    assert facts.parameters == sum(storages.values())


def test_query_heads_are_those_of_the_projection(built: tuple[str, PreTrainedModel, ModelFacts]) -> None:
    _, model, facts = built
    outputs = [module.out_features for name, module in model.named_modules() if name.endswith("q_proj")]
    fused = [
        module.weight.numel() // facts.hidden_size
        for name, module in model.named_modules()
        if name.endswith(("qkv_proj", "c_attn", "query_key_value"))
    ]
    kv_width = 2 * facts.kv_heads * facts.head_dim
    assert (outputs or [width - kv_width for width in fused]) == [facts.query_heads * facts.head_dim] * facts.layers


def test_bytes_are_counted_from_the_layers(built: tuple[str, PreTrainedModel, ModelFacts]) -> None:
    _, _, facts = built
    one = facts.kv_heads * facts.head_dim * 2 * 2
    assert facts.kv_bytes_per_token == sum(one for kind in facts.layer_kinds if kind == "full")
    assert facts.windowed_kv_bytes == sum(one * 16 for kind in facts.layer_kinds if kind != "full")


def test_facts_become_json_and_keep_every_field(built: tuple[str, PreTrainedModel, ModelFacts]) -> None:
    name, _, facts = built
    document = json.loads(json.dumps(facts.to_dict()))
    assert document["name"] == name
    assert document["full_layers"] == list(facts.full_layers)
    assert document["kv_bytes_per_token"] == facts.kv_bytes_per_token
    assert document["context_tokens"] == 256
    assert bool(document["rope"]) == (name not in LEARNED_POSITIONS)


@pytest.mark.parametrize(("kv_heads", "expected"), [(4, "MHA"), (2, "GQA"), (1, "MQA")])
def test_attention_is_named_by_how_heads_are_shared(tmp_path: Path, kv_heads: int, expected: str) -> None:
    AutoConfig.for_model("llama", **{**SHAPE, "num_key_value_heads": kv_heads}).save_pretrained(tmp_path)
    assert inspect(str(tmp_path)).attention == expected


def test_the_text_part_of_a_multimodal_model_is_what_counts(tmp_path: Path) -> None:
    text = {**SHAPE, "head_dim": 8, "sliding_window": 16, "layer_types": SLIDING_FULL}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    AutoConfig.for_model(
        "gemma3", text_config=text, vision_config={**vision, "image_size": 8, "patch_size": 4}, mm_tokens_per_image=4
    ).save_pretrained(tmp_path)
    facts = inspect(str(tmp_path))
    assert (facts.model_type, facts.layer_kinds, facts.sliding_window) == ("gemma3", ("sliding", "full"), 16)
    assert (facts.query_heads, facts.kv_heads, facts.head_dim, facts.hidden_size) == (4, 2, 8, 32)


def test_the_soft_cap_of_gemma2_is_a_fact(tmp_path: Path) -> None:
    AutoConfig.for_model("gemma2", **SHAPE, head_dim=8, attn_logit_softcapping=30.0).save_pretrained(tmp_path)
    assert inspect(str(tmp_path)).attention_softcap == 30.0


def test_rope_of_each_layer_kind_is_kept(tmp_path: Path) -> None:
    AutoConfig.for_model("gemma3_text", **SHAPE, head_dim=8, layer_types=SLIDING_FULL).save_pretrained(tmp_path)
    rope = inspect(str(tmp_path)).rope
    assert rope["sliding_attention"]["rope_theta"] == 10_000.0
    assert rope["full_attention"]["rope_theta"] == 1_000_000.0
