"""A continuous batch gives every request the tokens that it gets alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedModel

from autokv import CompressedCache, CompressionConfig
from autokv.errors import ModelError, RequestError
from autokv.runtime.decoding import decode
from autokv.runtime.packed import PackedBatch, PromptChunk
from autokv.runtime.plan import make_plan

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel

Tiny = Callable[..., "GenerativeModel"]
Ids = Callable[..., torch.Tensor]
QUANTIZED = {
    "method": "integer",
    "key": {"bits": 4, "axis": "channel", "group_size": 16},
    "value": {"bits": 2, "axis": "token", "group_size": 16},
    "residual_tokens": 16,
}
FORMS: dict[str, dict[str, object]] = {
    "identity": {},
    "quantized": {"quantization": QUANTIZED},
    # Asks for the window's queries of the prompt, which may lie in several chunks.
    "snapkv, quantized": {
        "eviction": {"method": "snapkv", "keep_ratio": 0.5, "recent_tokens": 16, "options": {"window": 12}},
        "quantization": QUANTIZED,
    },
    # Asks for all of them.
    "h2o": {"eviction": {"method": "h2o", "keep_ratio": 0.5, "recent_tokens": 8}},
    "expected attention": {"eviction": {"method": "expected_attention", "keep_ratio": 0.5, "recent_tokens": 8}},
    "latent": {"low_rank": {"method": "latent", "key_rank": 12, "value_rank": 8}},
}
LENGTHS = {0: 50, 1: 9, 2: 71, 3: 33}
NEW_TOKENS = {0: 40, 1: 64, 2: 5, 3: 25}


def config(form: str) -> CompressionConfig:
    return CompressionConfig.parse({"pipeline": FORMS[form]})


def alone(model: PreTrainedModel, prompts: Mapping[int, torch.Tensor], form: str) -> dict[int, list[int]]:
    """What every request gives through a cache of its own."""
    return {
        request: list(
            decode(model, ids[None], CompressedCache.from_config(model, config(form)), NEW_TOKENS[request]).tokens
        )
        for request, ids in prompts.items()
    }


def together(
    batch: PackedBatch,
    prompts: Mapping[int, torch.Tensor],
    order: Sequence[int],
    chunk: Callable[[int, int], int],
    most: int = 4,
) -> dict[int, list[int]]:
    """Every request served in a batch of ``most``, admitted by ``order``, ``chunk(request, done)`` tokens at a time."""
    waiting, done = list(order), dict.fromkeys(prompts, 0)
    tokens: dict[int, list[int]] = {request: [] for request in prompts}
    running: list[int] = []
    while waiting or running:
        while waiting and len(running) < most:
            running.append(waiting.pop(0))
        decoding = [(request, tokens[request][-1]) for request in running if tokens[request]]
        chunks = []
        for request in running:
            if not tokens[request]:
                stop = min(len(prompts[request]), done[request] + chunk(request, done[request]))
                part = prompts[request][done[request] : stop]
                chunks.append(PromptChunk(request, part, last=stop == len(prompts[request])))
                done[request] = stop
        for request, token in batch.step(decoding, chunks).items():
            tokens[request].append(token)
            if len(tokens[request]) == NEW_TOKENS[request]:
                running.remove(request)
                batch.drop(request)
                assert batch.nbytes(request) == 0
    return tokens


@pytest.fixture
def prompts(ids: Ids) -> dict[int, torch.Tensor]:
    return {request: ids(1, tokens, seed=request)[0] for request, tokens in LENGTHS.items()}


@pytest.mark.parametrize("form", FORMS)
def test_together_or_alone_the_tokens_are_the_same(form: str, tiny: Tiny, prompts: dict[int, torch.Tensor]) -> None:
    model = tiny()
    expected = alone(model, prompts, form)
    batch = PackedBatch(make_plan(model, config(form)))
    assert together(batch, prompts, [0, 1, 2, 3], lambda _request, _done: 10_000) == expected
    assert together(batch, prompts, [3, 2, 1, 0], lambda _request, _done: 10_000, most=2) == expected


@pytest.mark.parametrize("form", FORMS)
def test_prompts_in_chunks_give_the_same_tokens(form: str, tiny: Tiny, prompts: dict[int, torch.Tensor]) -> None:
    model = tiny()
    batch = PackedBatch(make_plan(model, config(form)))
    # The last chunk of some prompts is shorter than the window whose queries SnapKV asks for.
    assert together(batch, prompts, [2, 0, 3, 1], lambda request, _done: 11 + request) == alone(model, prompts, form)


@pytest.mark.parametrize("family", ["qwen3", "phi3"])
def test_other_families_give_the_same_tokens(family: str, tiny: Tiny, prompts: dict[int, torch.Tensor]) -> None:
    model = tiny(family)
    batch = PackedBatch(make_plan(model, config("quantized")))
    assert together(batch, prompts, [0, 1, 2, 3], lambda _request, _done: 40) == alone(model, prompts, "quantized")


_SHARED: dict[str, tuple[PackedBatch, dict[int, list[int]], dict[int, torch.Tensor]]] = {}


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(list(LENGTHS)), most=st.integers(1, 4), sizes=st.lists(st.integers(1, 60), min_size=1))
def test_any_order_and_any_chunks_give_the_same_tokens(
    order: list[int], most: int, sizes: list[int], tiny_model_folder: Callable[..., Path]
) -> None:
    if not _SHARED:
        model = AutoModelForCausalLM.from_pretrained(tiny_model_folder(), dtype=torch.float32).eval()
        texts = {
            request: torch.randint(0, 256, (tokens,), generator=torch.Generator().manual_seed(request))
            for request, tokens in LENGTHS.items()
        }
        batch = PackedBatch(make_plan(model, config("snapkv, quantized")))
        _SHARED["all"] = batch, alone(model, texts, "snapkv, quantized"), texts
    batch, expected, texts = _SHARED["all"]
    found = together(batch, texts, order, lambda request, done: sizes[(request + done) % len(sizes)], most)
    assert found == expected


@pytest.mark.parametrize("form", FORMS)
def test_a_request_holds_the_bytes_that_it_holds_alone(form: str, tiny: Tiny, prompts: dict[int, torch.Tensor]) -> None:
    model = tiny()
    cache = CompressedCache.from_config(model, config(form))
    tokens = decode(model, prompts[0][None], cache, 30).tokens
    batch = PackedBatch(make_plan(model, config(form)))
    batch.step([], [PromptChunk(1, prompts[1], last=True), PromptChunk(0, prompts[0], last=True)])
    for token in tokens[:-1]:
        batch.step([(0, token)])
    assert batch.nbytes(0) == cache.nbytes
    held = batch.nbytes(1)
    batch.drop(0)
    assert (batch.nbytes(0), batch.nbytes(1)) == (0, held)


def test_what_was_dropped_can_come_again(tiny: Tiny, prompts: dict[int, torch.Tensor]) -> None:
    model = tiny()
    batch = PackedBatch(make_plan(model, CompressionConfig()))
    first = batch.step([], [PromptChunk(0, prompts[0], last=True)])
    second = batch.step([(0, first[0])])
    batch.drop(0)
    # Computed anew: the prompt and what was generated are the prompt now.
    again = torch.cat([prompts[0], torch.tensor([first[0]])])
    batch.step([], [PromptChunk(0, again[:20], last=False)])
    assert batch.step([], [PromptChunk(0, again[20:], last=True)]) == second


def test_a_prompt_that_is_not_complete_holds_its_keys_and_values(tiny: Tiny, prompts: dict[int, torch.Tensor]) -> None:
    model = tiny()
    plan = make_plan(model, config("quantized"))
    batch = PackedBatch(plan)
    assert batch.step([], [PromptChunk(0, prompts[0][:20], last=False)]) == {}
    facts = plan.facts
    assert batch.nbytes(0) == facts.layers * 2 * facts.kv_heads * 20 * facts.head_dim * 4
    batch.step([], [PromptChunk(0, prompts[0][20:], last=True)])
    assert batch.nbytes(0) < facts.layers * 2 * facts.kv_heads * 50 * facts.head_dim * 4


@pytest.mark.parametrize(
    ("decoding", "chunks", "says"),
    [
        ([], [], "neither"),
        ([(7, 1)], [], "request 7 decodes before its prompt is complete"),
        ([(0, 1), (0, 1)], [], "twice"),
        ([], [(0, 3)], "request 0 comes after its end"),
        ([], [(5, 0)], "request 5 has no tokens"),
        ([(1, 1)], [], "request 1 decodes before its prompt is complete"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused(
    decoding: list[tuple[int, int]], chunks: list[tuple[int, int]], says: str, tiny: Tiny, ids: Ids
) -> None:
    batch = PackedBatch(make_plan(tiny(), CompressionConfig()))
    batch.step([], [PromptChunk(0, ids(1, 5)[0], last=True), PromptChunk(1, ids(1, 5)[0], last=False)])
    with pytest.raises(RequestError, match=says):
        batch.step(decoding, [PromptChunk(request, ids(1, tokens)[0], last=True) for request, tokens in chunks])


def test_a_request_cannot_outgrow_the_model(tiny: Tiny, ids: Ids) -> None:
    batch = PackedBatch(make_plan(tiny(), CompressionConfig()))
    batch.step([], [PromptChunk(4, ids(1, 1000)[0], last=False)])
    with pytest.raises(ModelError, match="1025 tokens of request 4 are more than the 1024"):
        batch.step([], [PromptChunk(4, ids(1, 25)[0], last=True)])


def test_models_with_sliding_windows_are_refused_by_name(tiny: Tiny) -> None:
    with pytest.raises(ModelError, match="sliding window"):
        PackedBatch(make_plan(tiny("gemma2"), CompressionConfig()))
