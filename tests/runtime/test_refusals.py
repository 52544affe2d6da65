"""What cannot run is refused in one line, before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

import autokv
from autokv import CompressedCache, CompressionConfig, ConfigurationDocument
from autokv.errors import ConfigError, ModelError, RequestError
from autokv.models.inspection import facts_of

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel

Tiny = Callable[..., "GenerativeModel"]
Ids = Callable[..., torch.Tensor]


def parse(**stages: object) -> CompressionConfig:
    return CompressionConfig.parse({"pipeline": stages})


@pytest.mark.parametrize(
    ("stages", "field"),
    [
        ({"low_rank": {"method": "latent", "key_rank": 17, "value_rank": 4}}, "pipeline.low_rank.key_rank"),
        (
            {
                "quantization": {
                    "method": "integer",
                    "key": {"bits": 4, "axis": "token", "group_size": 64},
                    "value": {"bits": 4, "axis": "token", "group_size": 16},
                }
            },
            "pipeline.quantization.key.group_size",
        ),
    ],
)
def test_a_configuration_that_does_not_fit(stages: dict[str, object], field: str, tiny: Tiny) -> None:
    model = tiny("llama")
    with pytest.raises(ConfigError) as caught:
        CompressedCache.from_config(model, parse(**stages))
    assert caught.value.field == field
    assert model.config._attn_implementation == "sdpa"


def test_a_document_of_another_model(tiny: Tiny, tmp_path: Path) -> None:
    model = tiny("llama")
    facts = facts_of(tiny("qwen3").config, "other").to_dict()
    path = tmp_path / "recommended.json"
    path.write_text(ConfigurationDocument(model=facts).model_dump_json())
    with pytest.raises(ConfigError, match="Qwen3ForCausalLM, this one has LlamaForCausalLM") as caught:
        CompressedCache.from_config(model, path)
    assert caught.value.field == f"{path}: model.architecture"
    path.write_text(ConfigurationDocument(model=facts_of(model.config, "same").to_dict()).model_dump_json())
    assert CompressedCache.from_config(model, str(path)).config == CompressionConfig()
    written = path.with_suffix(".yaml")
    written.write_text(yaml.safe_dump(json.loads(path.read_text())))
    assert CompressedCache.from_config(model, written).config == CompressionConfig()
    path.write_text(json.dumps({"pipeline": {"eviction": {"method": "nothing"}}}))
    with pytest.raises(ConfigError):
        CompressedCache.from_config(model, path)


def test_models_that_cannot_be_compressed() -> None:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "vocab_size": 260}
    chunked = AutoConfig.for_model(
        "llama4_text",
        **shape,
        num_hidden_layers=2,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size_mlp=48,
        num_local_experts=1,
        layer_types=["chunked_attention", "full_attention"],
        no_rope_layers=[1, 0],
    )
    with pytest.raises(ModelError, match="chunked"):
        CompressedCache.from_config(AutoModelForCausalLM.from_config(chunked), CompressionConfig())
    bloom = AutoConfig.for_model("bloom", hidden_size=32, n_layer=2, n_head=4, vocab_size=260)
    with pytest.raises(ModelError, match="ALiBi"):
        CompressedCache.from_config(AutoModelForCausalLM.from_config(bloom), CompressionConfig())


def test_queries_that_cannot_be_rotated_back() -> None:
    config = AutoConfig.for_model(
        "cohere", hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=260
    )
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ConfigError, match="rotation") as caught:
        CompressedCache.from_config(model, parse(eviction={"method": "expected_attention", "keep_ratio": 0.5}))
    assert caught.value.field == "pipeline.eviction.method"


def test_the_models_context_is_the_end(tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama", max_position_embeddings=64)
    cache = CompressedCache.from_config(model, CompressionConfig())
    with pytest.raises(ModelError, match=r"65 tokens are more than the 64.*max_new_tokens"):
        model.generate(ids(1, 60), past_key_values=cache, max_new_tokens=10, eos_token_id=None, do_sample=False)
    with pytest.raises(ModelError, match="80 tokens"):
        model(ids(1, 80), past_key_values=CompressedCache.from_config(model, CompressionConfig()))


def test_a_cache_serves_one_model(tiny: Tiny, ids: Ids) -> None:
    model, twin, plain = tiny("llama"), tiny("llama"), tiny("llama")
    CompressedCache.from_config(twin, CompressionConfig())
    for other in (twin, plain):
        cache = CompressedCache.from_config(model, CompressionConfig())
        with pytest.raises(ModelError, match="another model"):
            other(ids(1, 20), past_key_values=cache)


def test_a_cache_outlives_no_context(tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama")
    with autokv.compress(model, CompressionConfig()) as compression:
        model.generate(ids(1, 20), max_new_tokens=2)
    with pytest.raises(ModelError, match="sdpa"):
        model(ids(1, 1), past_key_values=compression.cache)


@pytest.mark.parametrize("length", [5, 20, 29, 30])
def test_a_second_prompt_needs_a_second_cache(length: int, tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama")
    cache = CompressedCache.from_config(model, CompressionConfig())
    model.generate(ids(1, 20), past_key_values=cache, max_new_tokens=11, eos_token_id=None)
    with pytest.raises(RequestError, match="new cache"):
        model.generate(ids(1, length, seed=1), past_key_values=cache, max_new_tokens=4)
    cache.reset()
    assert cache.nbytes == 0
    fresh = CompressedCache.from_config(model, CompressionConfig())
    expected, found = (
        model.generate(ids(1, length, seed=1), past_key_values=each, max_new_tokens=4, do_sample=False)
        for each in (fresh, cache)
    )
    assert expected.tolist() == found.tolist()


def test_another_batch_needs_another_cache(tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama")
    cache = CompressedCache.from_config(model, CompressionConfig())
    model(ids(2, 20), past_key_values=cache)
    with pytest.raises(RequestError, match="batch of 3"):
        model(ids(3, 1), past_key_values=cache)


def test_tokens_are_not_given_back(tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama")
    cache = CompressedCache.from_config(model, CompressionConfig())
    with pytest.raises(RequestError, match="assistant"):
        model.generate(ids(1, 20), past_key_values=cache, assistant_model=tiny("llama"), max_new_tokens=4)
    assert cache.get_seq_length() == 0


def test_padding_behind_a_compressed_prompt(tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama")
    cache = CompressedCache.from_config(model, CompressionConfig())
    mask = torch.ones(2, 30, dtype=torch.long)
    mask[0, 20:23] = 0
    model(ids(2, 20), past_key_values=cache)
    with pytest.raises(RequestError, match="masks some"):
        model(ids(2, 10), past_key_values=cache, attention_mask=mask)
    mask[:] = 1
    mask[1, :20] = 0
    cache = CompressedCache.from_config(model, CompressionConfig())
    with pytest.raises(RequestError, match="all padding"):
        model(ids(2, 20), past_key_values=cache, attention_mask=mask[:, :20])


def test_a_padded_batch_that_is_read_in_chunks(tiny: Tiny, ids: Ids) -> None:
    model, prompt = tiny("llama"), ids(2, 40)
    mask = torch.ones(2, 40, dtype=torch.long)
    mask[1, :30] = 0

    def generate(chunk: int | None) -> torch.Tensor:
        cache = CompressedCache.from_config(model, CompressionConfig())
        options = {"do_sample": False, "eos_token_id": None, "max_new_tokens": 2, "prefill_chunk_size": chunk}
        return model.generate(prompt, attention_mask=mask, past_key_values=cache, **options)

    with pytest.raises(RequestError, match="first 16 tokens of a prompt in the batch are all padding") as caught:
        generate(16)
    assert caught.value.field == "attention_mask"
    assert "prefill_chunk_size larger than the padding" in str(caught.value)
    assert torch.equal(generate(32), generate(None)), "the remedy works"
