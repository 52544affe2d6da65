"""A replay runs every iteration of the scheduler on a model, and accounts for what is really held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autokv import CompressedCache
from autokv.config import CompressionConfig
from autokv.errors import RequestError
from autokv.evaluation.replay import ReplayExecutor, replay
from autokv.models import LoadedModel, load
from autokv.runtime.decoding import decode
from autokv.runtime.packed import PackedBatch, PromptChunk
from autokv.runtime.plan import make_plan
from autokv.serving import KVMemory, SequenceBytes, ServingOptions, serve
from autokv.workload import WorkloadTrace

FP8 = CompressionConfig.parse({"pipeline": {"quantization": {"method": "fp8", "residual_tokens": 16}}})


@pytest.fixture(scope="module")
def model(tiny_model_folder: Callable[..., Path]) -> LoadedModel:
    return load(str(tiny_model_folder()), dtype="float32", device="cpu")


def trace(requests: int = 12, seed: int = 3) -> WorkloadTrace:
    """All requests at once."""
    rng = np.random.default_rng(seed)
    return WorkloadTrace(
        "made up",
        "test",
        np.zeros(requests),
        rng.integers(5, 60, requests),
        rng.integers(1, 30, requests),
    )


def bytes_of(model: LoadedModel, config: CompressionConfig, page: int = 4) -> SequenceBytes:
    """No less than any request holds: of tokens by the byte, and a window of 16 that is allocated whole."""
    facts, element = model.facts, 1 if config is FP8 else 2
    heads = facts.layers * 2 * facts.kv_heads
    # fp8 holds a scale of four bytes for every row, of the prompt and of what was generated.
    return SequenceBytes(element * heads * facts.head_dim, heads * (16 * 2 * facts.head_dim + 8), 0)


class Ticks:
    """A clock on which everything takes a second."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> float:
        self.now += 1
        return float(self.now)


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[int]]:
    """Every token that came out of a batch, by request."""
    found: dict[int, list[int]] = {}
    step = PackedBatch.step

    def recorded(
        batch: PackedBatch, decoding: Sequence[tuple[int, int]], chunks: Sequence[PromptChunk]
    ) -> dict[int, int]:
        result = step(batch, decoding, chunks)
        for request, token in result.items():
            found.setdefault(request, []).append(token)
        return result

    monkeypatch.setattr(PackedBatch, "step", recorded)
    return found


@pytest.mark.parametrize(("budget", "pages"), [(64, 1000), (16, 1000), (48, 25)])
def test_every_request_gets_the_tokens_that_it_gets_alone(
    budget: int, pages: int, model: LoadedModel, tokens: dict[int, list[int]]
) -> None:
    work, options = trace(), ServingOptions(max_num_batched_tokens=budget, max_num_seqs=8, block_size=4)
    sequence = SequenceBytes(4.0)
    memory = KVMemory(pages * 16.0, sequence, 4)
    outcome = replay(work, model, CompressionConfig(), memory, options, seed=5).outcome
    assert outcome.served.all()
    # With few pages requests lose their caches, and all their tokens are prefilled again.
    assert (outcome.preemptions.sum() > 0) == (pages == 25)
    assert {request: len(found) for request, found in tokens.items()} == dict(enumerate(work.output_tokens.tolist()))
    for request, found in tokens.items():
        prompt = torch.randint(
            0,
            model.facts.vocab_size,
            (int(work.input_tokens[request]),),
            generator=torch.Generator().manual_seed(5 + request),
        )
        cache = CompressedCache.from_config(model.model, CompressionConfig())
        alone = list(decode(model.model, prompt[None], cache, len(found)).tokens)
        if not outcome.preemptions[request]:
            assert found == alone
        else:
            # What was generated is computed again in full precision, and no more from keys and values in 16 bits.
            assert np.mean(np.array(found) == np.array(alone)) > 0.5


def test_the_clock_is_the_executors_and_jumps_over_idle_time(model: LoadedModel) -> None:
    work = WorkloadTrace("made up", "test", np.array([0.0, 1000.0]), np.array([20, 30]), np.array([3, 2]))
    memory, options = KVMemory(1e6, SequenceBytes(4.0), 4), ServingOptions(max_num_batched_tokens=16, max_num_seqs=4)
    executor = ReplayExecutor(work, make_plan(model.model, FP8), clock=Ticks())
    outcome = serve(work, memory, executor, options)
    # Two chunks and two more tokens; two chunks and one more token.
    np.testing.assert_array_equal(outcome.first_token_s, [2, 1002])
    np.testing.assert_array_equal(outcome.finish_s, [4, 1003])
    assert [one.seconds for one in executor.iterations] == [1.0] * 7
    assert [one.decoding for one in executor.iterations] == [0, 0, 1, 1, 0, 0, 1]
    assert [one.held_tokens for one in executor.iterations] == [0, 0, 20, 21, 0, 0, 30]


def test_iterations_are_timed_by_the_clock_of_the_costs(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autokv.evaluation.replay.clock_of", lambda device: Ticks())
    options = ServingOptions(max_num_batched_tokens=64, max_num_seqs=8)
    found = replay(trace(6), model, FP8, KVMemory(1e6, SequenceBytes(4.0), 4), options)
    assert {one.seconds for one in found.iterations} == {1.0}


@pytest.mark.parametrize("config", [CompressionConfig(), FP8], ids=["16 bit", "fp8"])
def test_what_is_held_is_what_is_accounted_for(config: CompressionConfig, model: LoadedModel) -> None:
    work = trace(40)
    memory = KVMemory(3e5, bytes_of(model, config), 4)
    found = replay(work, model, config, memory, ServingOptions(max_num_batched_tokens=64, max_num_seqs=8))
    assert found.outcome.served.all()
    assert 0.5 * found.outcome.peak_kv_bytes < found.peak_held_bytes <= found.outcome.peak_kv_bytes
    assert sum(one.seconds for one in found.iterations) == pytest.approx(found.outcome.busy_s)


@pytest.mark.parametrize("changes", [{"preemption": "swap"}, {"prefix_caching": True}])
def test_what_is_not_replayed_is_refused(changes: dict[str, Any], model: LoadedModel) -> None:
    options = ServingOptions(**changes)
    with pytest.raises(RequestError, match="is not replayed"):
        replay(trace(), model, FP8, KVMemory(1e6, SequenceBytes(4.0), 16), options)


def test_turns_of_a_conversation_are_replayed_one_after_the_other(model: LoadedModel) -> None:
    chat = replace(trace(8), session=np.arange(8) % 2, turn=np.arange(8) // 2 + 1)
    memory = KVMemory(1e9, bytes_of(model, FP8), 4)
    executor = ReplayExecutor(chat, make_plan(model.model, FP8), clock=Ticks())
    closed = serve(chat, memory, executor, ServingOptions())
    assert closed.max_running == 2
    assert closed.arrival_s[2:].tolist() == closed.finish_s[:-2].tolist()
    assert max(len(one.chunks) + one.decoding for one in executor.iterations) == 2
