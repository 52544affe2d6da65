"""What a cache holds: bytes against the allocator, tokens against the budget."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from autokv import CompressedCache, CompressionConfig
from autokv.compression.budgets import layer_budgets
from autokv.evaluation import Measurement, Prompt
from autokv.evaluation.evaluator import Evaluator, needs_of
from autokv.models import load
from autokv.runtime.layer import CompressedLayer
from autokv.runtime.plan import make_plan

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel

Tiny = Callable[..., "GenerativeModel"]
Ids = Callable[..., torch.Tensor]
FOUR_BITS = {
    "method": "integer",
    "key": {"bits": 4, "axis": "channel", "group_size": 32},
    "value": {"bits": 4, "axis": "token", "group_size": 16},
    "residual_tokens": 32,
}
SNAPKV = {
    "method": "snapkv",
    "keep_ratio": 0.4,
    "recent_tokens": 16,
    "head_budget": "adaptive",
    "options": {"window": 16},
}
STAGES: dict[str, dict[str, object]] = {
    "identity": {},
    "int4": {"quantization": FOUR_BITS},
    "snapkv and int4": {"eviction": SNAPKV, "quantization": FOUR_BITS},
    "latent": {
        "quantization": {"method": "fp8"},
        "low_rank": {"method": "latent", "key_rank": 8, "value_rank": 8},
    },
}


def census() -> int:
    """Bytes of every tensor that is alive, each storage once."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor) and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.parametrize("stages", STAGES.values(), ids=STAGES)
def test_bytes_are_the_allocators_and_the_evaluators(
    stages: dict[str, object], tiny: Tiny, tiny_model_folder: Callable[..., Path], ids: Ids
) -> None:
    config, prompt = CompressionConfig.parse({"pipeline": stages}), ids(1, 600)
    model = tiny("llama")
    with torch.inference_mode():
        # Whatever a first pass leaves behind for ever (Hadamard matrices, starting points) is not the cache's.
        model(prompt, past_key_values=CompressedCache.from_config(model, config), logits_to_keep=1)
        before = census()
        cache = CompressedCache.from_config(model, config)
        model(prompt, past_key_values=cache, logits_to_keep=1)
    assert census() - before == pytest.approx(cache.nbytes, rel=0.01)

    judged = load(str(tiny_model_folder("llama")), dtype="float32", device="cpu")
    text = Prompt("p", "text", tuple(prompt[0].tolist()), (1, 2))
    (measured,) = Evaluator(judged, [text], 2, needs_of([config]), timed=False).evaluate([config])
    assert isinstance(measured, Measurement)
    assert cache.nbytes == pytest.approx(measured.value("kv_bytes_per_token") * 600, rel=1e-6)

    tokens = ids(1, 100, seed=1).unbind(1)
    with torch.inference_mode():
        before = census() - cache.nbytes
        for token in tokens:
            model(token[:, None], past_key_values=cache)
    assert census() - before == pytest.approx(cache.nbytes, rel=0.01)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_sliding_layers_hold_their_window(family: str, tiny: Tiny, ids: Ids) -> None:
    model = tiny(family)
    caches = CompressedCache.from_config(model, CompressionConfig()), DynamicCache(config=model.config)
    for cache in caches:
        model.generate(ids(2, 80), past_key_values=cache, max_new_tokens=2, do_sample=False)
    for ours, theirs in zip(caches[0].layers, caches[1].layers, strict=True):
        assert isinstance(ours, DynamicLayer | CompressedLayer)
        assert isinstance(theirs, DynamicLayer)
        assert ours.is_sliding == theirs.is_sliding
        if ours.is_sliding:
            torch.testing.assert_close(ours.keys, theirs.keys, rtol=1e-2, atol=1e-2)


def test_sliding_layers_let_go_of_the_prompt(tiny: Tiny, ids: Ids) -> None:
    model = tiny("gemma3_text")
    cache = CompressedCache.from_config(model, CompressionConfig())
    with torch.inference_mode():
        model(ids(1, 400), past_key_values=cache)
    per_token = 2 * 2 * 16
    assert cache.nbytes == per_token * (2 * 400 * 2 + 23 * 4)


def allocated(work: Callable[[], object]) -> tuple[int, int]:
    """Most bytes that PyTorch's allocator had given out during ``work``, and how many of them are held after it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        held = work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    running = [0]
    for event in sorted(events, key=lambda event: event.start_ns()):
        running.append(running[-1] + event.nbytes())
    del held
    return max(running), running[-1]


@pytest.mark.parametrize("stages", STAGES.values(), ids=STAGES)
def test_the_peak_of_a_prefill_is_one_layer_above_what_is_held(stages: dict[str, object], tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama", num_hidden_layers=12, num_attention_heads=4, num_key_value_heads=4, intermediate_size=192)
    config, prompt = CompressionConfig.parse({"pipeline": stages}), ids(1, 900)

    def prefill(cache: CompressedCache | None) -> CompressedCache | None:
        with torch.inference_mode():
            model(prompt, past_key_values=cache, use_cache=cache is not None, logits_to_keep=1)
        return cache

    # What the first pass leaves behind for ever is not the cache's.
    prefill(CompressedCache.from_config(model, config))
    without, _ = allocated(lambda: prefill(None))
    cache = CompressedCache.from_config(model, config)
    peak, left = allocated(lambda: prefill(cache))
    assert left == pytest.approx(cache.nbytes, rel=0.01)
    one_layer = 2 * 4 * 16 * 900 * 4
    assert peak <= without + cache.nbytes + one_layer


def test_no_two_layers_are_ever_held_in_full(tiny: Tiny, ids: Ids, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama", num_hidden_layers=6)
    full: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []
    update = CompressedCache.update

    def watch(
        cache: CompressedCache, keys: torch.Tensor, values: torch.Tensor, layer: int, *rest: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        alive.append(sum(reference() is not None for reference in full))
        full.extend((weakref.ref(keys), weakref.ref(values)))
        return update(cache, keys, values, layer, *rest)

    monkeypatch.setattr(CompressedCache, "update", watch)
    cache = CompressedCache.from_config(model, CompressionConfig.parse({"pipeline": STAGES["int4"]}))
    with torch.inference_mode():
        model(ids(1, 300), past_key_values=cache)
    assert alive == [0] * 6


EVICTIONS: list[dict[str, object]] = [
    {"method": "streaming_llm"},
    {"method": "knorm", "layer_budget": "pyramid"},
    {"method": "keydiff", "head_budget": "adaptive"},
    {"method": "lagkv", "options": {"lag": 16}},
    {"method": "random"},
    {"method": "snapkv", "options": {"window": 8}, "head_budget": "adaptive", "layer_budget": "pyramid"},
    {"method": "tova"},
    {"method": "h2o", "options": {"normalize": True}},
    {"method": "expected_attention"},
]


@pytest.mark.parametrize(
    ("eviction", "quantized"),
    [*((stage, False) for stage in EVICTIONS), *((EVICTIONS[index], True) for index in (0, 5, 7))],
    ids=lambda value: str(value["method"]) if isinstance(value, dict) else "int4" if value else "16 bit",
)
def test_the_budget_holds_over_hundreds_of_tokens(
    eviction: dict[str, object], quantized: bool, tiny: Tiny, ids: Ids
) -> None:
    stages: dict[str, object] = {"eviction": {**eviction, "keep_ratio": 0.3, "recent_tokens": 8}}
    if quantized:
        stages["quantization"] = FOUR_BITS
    model, config = tiny("llama"), CompressionConfig.parse({"pipeline": stages})
    cache, plan = CompressedCache.from_config(model, config), make_plan(model, config)
    stage, seen, last = plan.eviction, 60, 0.0
    assert stage is not None
    with torch.inference_mode():
        model(ids(2, seen), past_key_values=cache)
        for token in ids(2, 200, seed=1).unbind(1):
            model(token[:, None], past_key_values=cache)
            seen += 1
            if seen % 25:
                continue
            for layer, entry in ((0, 0), (1, 1), (2, 0)):
                kept = [cache.kept_positions(layer, entry, head) for head in range(2)]
                budget = layer_budgets(stage, seen, 3)[layer]
                assert sum(map(len, kept)) / 2 <= budget + plan.capacity
                for positions in kept:
                    assert positions.unique().tolist() == positions.tolist()
                    # Sinks and the newest tokens are always there.
                    assert {0, 1, 2, 3, *range(seen - 8, seen)} <= set(positions.tolist())
            assert cache.kept_positions(0, 0, 0).max() == seen - 1
            last = sum(len(cache.kept_positions(layer, 0, head)) for layer in range(3) for head in range(2)) / 6
    assert last >= 0.3 * seen * 0.8
    rows = 2 * 2 * 3
    assert cache.nbytes <= rows * 2 * 16 * 2 * (0.3 * seen + 2 * plan.capacity)


def test_methods_keep_different_tokens_while_generating(tiny: Tiny, ids: Ids) -> None:
    model, kept = tiny("llama"), {}
    for eviction in EVICTIONS:
        stage = {**eviction, "keep_ratio": 0.3, "recent_tokens": 8, "layer_budget": "uniform"}
        cache = CompressedCache.from_config(model, CompressionConfig.parse({"pipeline": {"eviction": stage}}))
        with torch.inference_mode():
            model(ids(1, 60), past_key_values=cache)
            for token in ids(1, 70, seed=1).unbind(1):
                model(token[:, None], past_key_values=cache)
        positions = cache.kept_positions(1, 0, 0)
        kept[str(eviction["method"])] = tuple(positions[positions >= 60].tolist())
    assert len(set(kept.values())) >= len(EVICTIONS) - 1, "snapkv and expected_attention both read attention received"
    assert set(range(122, 130)) <= set(kept["h2o"])
