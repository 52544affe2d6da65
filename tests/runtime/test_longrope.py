"""LongRoPE (Phi-3): beyond its original context every position is rotated anew, and a cache of before is worthless."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel

import autokv
from autokv import CompressedCache, CompressionConfig
from autokv.compression.context import StatisticsNeeded
from autokv.errors import ModelError, PromptError
from autokv.evaluation import Measurement, Prompt
from autokv.evaluation.evaluator import Evaluator
from autokv.models import load
from autokv.models.inspection import facts_of
from autokv.runs.evaluation_plan import plan_evaluation
from autokv.runtime.packed import PackedBatch, PromptChunk
from autokv.runtime.plan import make_plan
from autokv.tuning.request import TuningRequest

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel

Tiny = Callable[..., "GenerativeModel"]
Ids = Callable[..., torch.Tensor]
SWITCH = 32
LONGROPE = {
    "original_max_position_embeddings": SWITCH,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 1.0,
        "short_factor": [1.0] * 8,
        "long_factor": [7.0] * 8,
    },
    "partial_rotary_factor": 1.0,
}
GREEDY = {"do_sample": False, "eos_token_id": None}


def cache_of(model: PreTrainedModel) -> CompressedCache:
    return CompressedCache.from_config(model, CompressionConfig())


def test_transformers_drops_a_cache_at_the_switch(tiny: Tiny, ids: Ids) -> None:
    """Why a compressed one needs care: the cache that was given stays behind, and nobody is told."""
    for prompt, held in ((24, SWITCH), (40, 0)):
        model = tiny("phi3", **LONGROPE)
        cache = DynamicCache(config=model.config)
        model.generate(ids(1, prompt), past_key_values=cache, max_new_tokens=20, **GREEDY)
        assert cache.get_seq_length() == held


def test_a_generation_across_the_switch_is_refused(tiny: Tiny, ids: Ids) -> None:
    model = tiny("phi3", **LONGROPE)
    refusal = r"past 32 tokens, where phi3 rotates.*LongRoPE.*keep prompt and output together within 32 tokens"
    with pytest.raises(ModelError, match=refusal):
        model.generate(ids(1, 24), past_key_values=cache_of(model), max_new_tokens=12, **GREEDY)
    with autokv.compress(model, CompressionConfig()), pytest.raises(ModelError, match=refusal):
        model.generate(ids(1, SWITCH), max_new_tokens=2, **GREEDY)
    with pytest.raises(ModelError, match=refusal):
        model.generate(ids(1, 40), past_key_values=cache_of(model), prefill_chunk_size=16, max_new_tokens=2, **GREEDY)


def test_a_second_turn_across_the_switch_is_refused(tiny: Tiny, ids: Ids) -> None:
    model = tiny("phi3", **LONGROPE)
    cache = cache_of(model)
    turn = model.generate(ids(1, 10), past_key_values=cache, max_new_tokens=4, **GREEDY)
    whole = torch.cat([turn, ids(1, 26)], dim=1)
    for given in (cache, copy.deepcopy(cache)):
        with pytest.raises(ModelError, match="past 32 tokens"):
            model.generate(whole, past_key_values=given, max_new_tokens=2, **GREEDY)
    with torch.no_grad(), pytest.raises(ModelError, match="past 32 tokens"):
        model(whole[:, cache.get_seq_length() :], past_key_values=cache)
    twin = copy.deepcopy(model)
    with pytest.raises(ModelError, match="past 32 tokens"):
        twin.generate(ids(1, 24), past_key_values=cache_of(twin), max_new_tokens=12, **GREEDY)
    own = DynamicCache()
    model.generate(ids(1, 24), past_key_values=own, max_new_tokens=20, **GREEDY)
    assert own.get_seq_length() == SWITCH, "with its own caches the model works as before"


@pytest.mark.parametrize(("prompt", "new"), [(24, SWITCH - 24 + 1), (SWITCH, 1), (SWITCH + 1, 12)])
def test_on_either_side_of_the_switch_a_cache_is_right(prompt: int, new: int, tiny: Tiny, ids: Ids) -> None:
    model, plain = tiny("phi3", **LONGROPE), tiny("phi3", **LONGROPE)
    expected = plain.generate(ids(1, prompt), max_new_tokens=new, use_cache=False, **GREEDY)
    cache = cache_of(model)
    assert model.generate(ids(1, prompt), past_key_values=cache, max_new_tokens=new, **GREEDY).equal(expected)
    assert cache.get_seq_length() == prompt + new - 1, "the cache was used to the end"


def test_a_batch_has_requests_of_one_side_only(tiny: Tiny, ids: Ids) -> None:
    short, long = (PromptChunk(request, ids(1, tokens)[0], last=True) for request, tokens in enumerate((20, 40)))
    plan = make_plan(tiny("phi3", **LONGROPE), CompressionConfig())
    for chunk in (short, long):
        PackedBatch(plan).step([], [chunk])
    with pytest.raises(ModelError, match=r"shorter ones too.*apart"):
        PackedBatch(plan).step([], [short, long])


def test_an_evaluation_across_the_switch_is_refused(tiny_model_folder: Callable[..., Path], ids: Ids) -> None:
    model = load(str(tiny_model_folder("phi3", **LONGROPE)), dtype="float32", device="cpu")

    def evaluator(context: int) -> Evaluator:
        text = tuple(ids(1, context + 8)[0].tolist())
        prompt = Prompt("p", "text", text[:context], text[context:])
        return Evaluator(model, [prompt], 8, StatisticsNeeded(), timed=False)

    with pytest.raises(PromptError, match=r"28 context and 8 continuation tokens cross 32.*--context-tokens"):
        evaluator(28)
    for context in (SWITCH - 8, SWITCH + 1):
        (found,) = evaluator(context).evaluate([CompressionConfig()])
        assert isinstance(found, Measurement)
        assert found.value("kl_divergence") < 1e-6


@pytest.mark.parametrize(("asked", "planned"), [(20, 20), (24, 24), (25, 24), (32, 24), (33, 33)])
def test_no_continuation_crosses_the_switch(asked: int, planned: int, tiny_model_folder: Callable[..., Path]) -> None:
    model = load(str(tiny_model_folder("phi3", **LONGROPE)), dtype="float32", device="cpu")
    request = TuningRequest(model="phi3", context_tokens=asked, continuation_tokens=8)
    plan = plan_evaluation(request, model, None, 60.0)
    assert {*plan.calibration, *plan.validation} == {planned}


def test_which_models_switch(tiny: Tiny) -> None:
    def switch(family: str, **changes: object) -> int | None:
        return facts_of(tiny(family, **changes).config, "tiny").switch_tokens

    llama3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    assert switch("phi3", **LONGROPE) == SWITCH
    assert switch("phi3", original_max_position_embeddings=SWITCH) == SWITCH, "generation heeds the field alone"
    assert switch("phi3") is None
    assert switch("llama") is None
    assert switch("llama", rope_parameters={**llama3, "original_max_position_embeddings": 128}) is None
