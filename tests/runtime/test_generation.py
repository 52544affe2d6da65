"""Generation with a compressed cache against transformers' own cache, masks and searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel

import autokv
from autokv import CompressedCache, CompressionConfig

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel

Tiny = Callable[..., "GenerativeModel"]
Ids = Callable[..., torch.Tensor]
GREEDY = {"do_sample": False, "eos_token_id": None}
FAMILIES = ["llama", "qwen3", "phi3", "gemma2", "gemma3_text"]


def integers(key: int, value: int, *, residual: int = 16, rotation: str = "none", group: int = 16) -> dict[str, object]:
    """KIVI's axes: keys per channel, values per token."""
    return {
        "method": "integer",
        "key": {"bits": key, "axis": "channel", "group_size": group},
        "value": {"bits": value, "axis": "token", "group_size": 16},
        "rotation": rotation,
        "residual_tokens": residual,
    }


FORMS: dict[str, dict[str, object]] = {
    "identity": {},
    "fp8": {"quantization": {"method": "fp8", "residual_tokens": 8}},
    "K8V8": {"quantization": integers(8, 8)},
    "K4V2 rotated": {"quantization": integers(4, 2, rotation="hadamard", residual=0)},
    "K3V3, group 32": {"quantization": integers(3, 3, group=32, residual=20)},
    "residual": {
        "quantization": integers(2, 2),
        "low_rank": {"method": "residual", "key_rank": 2, "value_rank": 3},
    },
    "latent": {
        "quantization": {"method": "fp8", "rotation": "hadamard"},
        "low_rank": {"method": "latent", "key_rank": 12, "value_rank": 8},
    },
    "adaptive heads": {
        "eviction": {
            "method": "snapkv",
            "keep_ratio": 0.6,
            # No fewer than stay in full precision: the window of a batch is as long as its shortest row.
            "recent_tokens": 16,
            "head_budget": "adaptive",
            "layer_budget": "pyramid",
            "options": {"window": 8},
        },
        "quantization": integers(8, 4),
    },
    "streaming": {"eviction": {"method": "streaming_llm", "keep_ratio": 0.3, "recent_tokens": 4}},
}


def config(name: str) -> CompressionConfig:
    return CompressionConfig.parse({"pipeline": FORMS[name]})


def decode(model: PreTrainedModel, prompt: torch.Tensor, tokens: torch.Tensor, cache: object) -> torch.Tensor:
    """Logits ``[batch, 1 + tokens, vocabulary]``: after the prompt, then token by token."""
    with torch.inference_mode():
        logits = [model(prompt, past_key_values=cache).logits[:, -1]]
        logits += [model(token[:, None], past_key_values=cache).logits[:, -1] for token in tokens.unbind(1)]
    return torch.stack(logits, dim=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_compression_it_is_the_models_own_cache(family: str, tiny: Tiny, ids: Ids) -> None:
    model, prompt, tokens = tiny(family), ids(2, 50), ids(2, 60, seed=1)
    expected = decode(model, prompt, tokens, DynamicCache(config=model.config))
    cache = CompressedCache.from_config(model, CompressionConfig())
    found = decode(model, prompt, tokens, cache)
    # Keys and values are held in float16.
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
    assert cache.get_seq_length() == 110
    again = decode(model, prompt, tokens, DynamicCache(config=model.config))
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bit_models_generate(dtype: torch.dtype, tiny: Tiny, ids: Ids) -> None:
    model, prompt, tokens = tiny("llama", dtype), ids(2, 50), ids(2, 40, seed=1)
    expected = decode(model, prompt, tokens, DynamicCache(config=model.config)).float()
    found = decode(model, prompt, tokens, CompressedCache.from_config(model, config("K8V8"))).float()
    apart = torch.nn.functional.kl_div(
        found.log_softmax(-1), expected.log_softmax(-1), log_target=True, reduction="sum"
    )
    assert apart.abs() / found[..., 0].numel() < 2e-2


@pytest.mark.parametrize("name", FORMS)
def test_the_kernels_read_what_a_float64_reference_reads(
    name: str, tiny: Tiny, ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole path with naive kernels, and with the device's own; blocks leave the window several times."""
    model, prompt, tokens = tiny("llama"), ids(1, 40), ids(1, 70, seed=1)
    found = []
    for kernels in ("reference", "cpu", "torch"):
        monkeypatch.setenv("AUTOKV_KERNELS", kernels)
        found.append(decode(model, prompt, tokens, CompressedCache.from_config(model, config(name))))
    torch.testing.assert_close(found[1], found[0], rtol=2e-2, atol=5e-2)
    torch.testing.assert_close(found[2], found[0], rtol=2e-2, atol=5e-2)


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3"])
def test_an_evicted_token_is_as_good_as_masked(family: str, tiny: Tiny, ids: Ids) -> None:
    """StreamingLLM keeps the same tokens everywhere, so a 4-d mask over the whole sequence says what each step saw."""
    model, prompt, tokens = tiny(family), ids(1, 40), ids(1, 100, seed=1)
    cache = CompressedCache.from_config(model, config("streaming"))
    mask = torch.ones(140, 140).tril().bool()
    found = []
    with torch.inference_mode():
        model(prompt, past_key_values=cache)
        for step, token in enumerate(tokens.unbind(1)):
            found.append(model(token[:, None], past_key_values=cache).logits[0, -1])
            kept = [set(cache.kept_positions(layer, 0, head).tolist()) for layer in range(3) for head in range(2)]
            assert all(each == kept[0] for each in kept)
            mask[40 + step] = False
            mask[40 + step, list(kept[0])] = True
        assert mask[-1].sum() < 80
        model.set_attn_implementation("eager")
        additive = torch.where(mask, 0.0, torch.finfo(torch.float32).min)[None, None]
        expected = model(torch.cat([prompt, tokens], dim=1), attention_mask=additive).logits[0, 40:]
        unmasked = model(torch.cat([prompt, tokens], dim=1)).logits[0, 40:]
    torch.testing.assert_close(torch.stack(found), expected, rtol=2e-2, atol=5e-2)
    assert (unmasked - expected).abs().max() > 1


@pytest.mark.parametrize("name", ["identity", "K8V8", "K3V3, group 32", "latent", "adaptive heads"])
def test_a_padded_batch_is_its_sequences_alone(name: str, tiny: Tiny, ids: Ids) -> None:
    model, lengths = tiny("llama"), (40, 61, 52)
    alone, padded = [], torch.full((3, 61), 257)
    for index, length in enumerate(lengths):
        prompt = ids(1, length, seed=index)
        padded[index, 61 - length :] = prompt
        cache = CompressedCache.from_config(model, config(name))
        alone.append(model.generate(prompt, past_key_values=cache, max_new_tokens=12, **GREEDY)[0, length:])
    mask = torch.arange(61) >= 61 - torch.tensor(lengths)[:, None]
    cache = CompressedCache.from_config(model, config(name))
    together = model.generate(padded, attention_mask=mask, past_key_values=cache, max_new_tokens=12, **GREEDY)
    assert together[:, 61:].tolist() == torch.stack(alone).tolist()
    for index, length in enumerate(lengths):
        assert cache.kept_positions(0, index, 0).max() == length + 10


def test_a_window_is_as_long_as_the_shortest_prompt_allows(tiny: Tiny, ids: Ids) -> None:
    model, padded = tiny("llama"), ids(2, 40)
    mask = torch.ones(2, 40, dtype=torch.long)
    mask[0, :33] = 0
    cache = CompressedCache.from_config(model, config("K8V8"))
    model.generate(padded, attention_mask=mask, past_key_values=cache, max_new_tokens=30, **GREEDY)
    assert [len(cache.kept_positions(0, entry, 1)) for entry in range(2)] == [7 + 29, 40 + 29]


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3, "do_sample": False},
        {"num_beams": 3, "num_return_sequences": 2, "do_sample": False},
        {"do_sample": True, "num_return_sequences": 2},
        {"num_beams": 2, "do_sample": True},
    ],
    ids=str,
)
def test_every_search_of_transformers_works(options: dict[str, object], tiny: Tiny, ids: Ids) -> None:
    # Models in float16 hold what they compute, so that choices cannot differ by rounding alone.
    model, prompt, found = tiny("llama", torch.float16), ids(2, 30), []
    for cache in (DynamicCache(config=model.config), CompressedCache.from_config(model, CompressionConfig())):
        torch.manual_seed(0)
        found.append(model.generate(prompt, past_key_values=cache, max_new_tokens=24, eos_token_id=None, **options))
    assert (found[0] == found[1]).float().mean() > 0.9


@pytest.mark.parametrize("name", FORMS)
def test_beams_carry_their_own_tokens(name: str, tiny: Tiny, ids: Ids) -> None:
    """After reordering, every sequence goes on as it would have alone."""
    model, prompt, tokens = tiny("llama"), ids(3, 40), ids(3, 60, seed=1)
    chosen = torch.LongTensor([2, 0, 0])
    found = CompressedCache.from_config(model, config(name))
    expected = CompressedCache.from_config(model, config(name))
    with torch.inference_mode():
        decode(model, prompt, tokens[:, :30], found)
        found.reorder_cache(chosen)
        decode(model, prompt[chosen], tokens[chosen, :30], expected)
        for token in tokens[:, 30:].unbind(1):
            left, right = (model(token[:, None], past_key_values=cache).logits for cache in (found, expected))
            torch.testing.assert_close(left, right, rtol=3e-2, atol=3e-2)
    assert found.nbytes == expected.nbytes


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_may_come_in_chunks_and_a_conversation_goes_on(family: str, tiny: Tiny, ids: Ids) -> None:
    model, prompt, turn = tiny(family), ids(2, 70), ids(2, 33, seed=1)
    found = []
    for cache in (DynamicCache(config=model.config), CompressedCache.from_config(model, CompressionConfig())):
        with torch.inference_mode():
            for chunk in prompt.split(20, dim=1):
                logits = [model(chunk, past_key_values=cache).logits]
            logits += [model(token[:, None], past_key_values=cache).logits for token in turn[:, :20].unbind(1)]
            logits.append(model(turn[:, 20:], past_key_values=cache).logits)
        found.append(torch.cat(logits, dim=1))
    torch.testing.assert_close(found[1], found[0], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", FORMS)
def test_tokens_together_see_what_tokens_one_by_one_see(name: str, tiny: Tiny, ids: Ids) -> None:
    """Where no block leaves the window in between, a second turn in one pass is the same as token by token."""
    model, prompt, tokens = tiny("llama"), ids(2, 64), ids(2, 36, seed=1)
    logits = []
    for together in (False, True):
        cache = CompressedCache.from_config(model, config(name))
        decode(model, prompt, tokens[:, :33], cache)
        with torch.inference_mode():
            parts = [tokens[:, 33:]] if together else tokens[:, 33:].split(1, dim=1)
            logits.append([model(part, past_key_values=cache).logits[:, -1] for part in parts][-1])
        held = sum(len(cache.kept_positions(0, 0, head)) for head in range(2))
        logits[-1] = logits[-1], held, cache.nbytes
    torch.testing.assert_close(logits[0][0], logits[1][0], rtol=5e-2, atol=2e-1)
    assert logits[0][1:] == logits[1][1:]


def test_compress_is_undone_when_its_block_ends(tiny: Tiny, ids: Ids) -> None:
    model, prompt = tiny("llama"), ids(1, 40)
    before = model.generate(prompt, max_new_tokens=8, **GREEDY)
    with autokv.compress(model, config("K8V8")) as compression:
        model.generate(prompt, max_new_tokens=8, **GREEDY)
        assert compression.cache is not None
        assert compression.cache.get_seq_length() == 47
        with autokv.compress(model, CompressionConfig()) as inner:
            model.generate(prompt, max_new_tokens=4, **GREEDY)
        assert inner.cache is not None
        assert inner.cache.config == CompressionConfig()
        model.generate(prompt, max_new_tokens=4, **GREEDY)
        assert compression.cache.get_seq_length() == 43
        own = DynamicCache(config=model.config)
        assert model.generate(prompt, past_key_values=own, max_new_tokens=8, **GREEDY).tolist() == before.tolist()
        assert own.get_seq_length() == 47
    assert model.config._attn_implementation == "sdpa"
    assert "generate" not in vars(model)
    assert model.generate(prompt, max_new_tokens=8, **GREEDY).tolist() == before.tolist()
