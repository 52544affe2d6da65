"""The cost meter by clocks that the tests move: what is measured, what is shared, and that figures come back."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from autokv import CompressedCache, CompressionConfig
from autokv.errors import AutoKVError
from autokv.evaluation.costs import KernelTime, MemoryCache, key_of, prefill, timing
from autokv.evaluation.costs import decode as decode_costs
from autokv.evaluation.costs.meter import CostMeter, activation_bytes, weights_bytes
from autokv.evaluation.costs.synthetic import Layers
from autokv.evaluation.costs.timing import Stopwatch, Timed, bent, ladder
from autokv.models import LoadedModel, ModelFacts, load
from autokv.runtime.attention import AttentionCall, AttentionMode
from autokv.runtime.contents import LayerContents
from autokv.runtime.continuing import attend_one
from autokv.runtime.decoding import decode
from autokv.runtime.packed import packed_logits
from autokv.runtime.plan import Plan, make_plan
from autokv.serving import CostModel
from autokv.storage import Database

LONGEST, BATCH, BATCHED = 300, 8, 64
INT4 = {
    "method": "integer",
    "key": {"bits": 4, "axis": "channel", "group_size": 16},
    "value": {"bits": 4, "axis": "token", "group_size": 16},
    "residual_tokens": 16,
}
SNAPKV = {"method": "snapkv", "keep_ratio": 0.5, "recent_tokens": 16, "options": {"window": 12}}
FORMS: dict[str, dict[str, Any]] = {
    "16-bit": {},
    "int4": {"quantization": INT4},
    "snapkv": {"eviction": SNAPKV},
    "snapkv, int4": {"eviction": SNAPKV, "quantization": INT4},
    "ragged, int4": {"eviction": {**SNAPKV, "head_budget": "adaptive"}, "quantization": INT4},
    "nothing but the protected": {"eviction": {"method": "knorm", "keep_ratio": 0.01, "recent_tokens": 20}},
    "pyramid": {"eviction": {"method": "tova", "keep_ratio": 0.5, "recent_tokens": 16, "layer_budget": "pyramid"}},
    "fp8": {"quantization": {"method": "fp8"}},
    "low rank": {"quantization": INT4, "low_rank": {"method": "residual", "key_rank": 2, "value_rank": 2}},
    "latent": {"low_rank": {"method": "latent", "key_rank": 8, "value_rank": 8}},
}


def config(form: str) -> CompressionConfig:
    return CompressionConfig.parse({"pipeline": FORMS[form]})


class Clock:
    """Seconds that pass only when a test says so, or at every look."""

    def __init__(self, step: Callable[[], float] = lambda: 0.0) -> None:
        self.now, self._step = 0.0, step

    def __call__(self) -> float:
        self.now += self._step()
        return self.now


class Paced:
    """A mode of a pass that takes ``seconds`` ahead of every layer's attention."""

    def __init__(self, mode: AttentionMode, clock: Clock, seconds: float) -> None:
        self._mode, self._clock, self._seconds = mode, clock, seconds

    def attend(self, call: AttentionCall) -> Tensor:
        self._clock.now += self._seconds
        return self._mode.attend(call)


@pytest.fixture(autouse=True)
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """No need to make up sequences enough to leave the last-level cache."""
    monkeypatch.setattr("autokv.evaluation.costs.synthetic.last_level_cache_bytes", lambda device: 1 << 12)


@pytest.fixture
def llama(tiny_model_folder: Callable[..., Path]) -> LoadedModel:
    return load(str(tiny_model_folder("llama")), dtype="float32", device="cpu")


def meter(model: LoadedModel, said: list[str] | None = None, **options: Any) -> CostMeter:  # noqa: ANN401
    limits: dict[str, Any] = {
        "longest_tokens": LONGEST,
        "max_batch": BATCH,
        "max_num_batched_tokens": BATCHED,
        "output_tokens": 64,
    }
    options = {"fingerprint": "here", "now": Clock(lambda: 1e-3), **limits, **options}
    return CostMeter(model, say=(lambda line: None) if said is None else said.append, **options)


@pytest.mark.parametrize(
    ("family", "form"), [*(("llama", form) for form in FORMS), ("gemma3_text", "16-bit"), ("gemma3_text", "pyramid")]
)
def test_every_form_is_measured_and_costs_rise(form: str, family: str, tiny_model_folder: Callable[..., Path]) -> None:
    """Whatever the clock says, costs are finite, at least 0, and rise with the batch and the tokens."""
    model = load(str(tiny_model_folder(family)), dtype="float32", device="cpu")
    noise = random.Random(form)
    costs = meter(model, now=Clock(lambda: noise.expovariate(1e3))).measure(config(form))
    for curve in (costs.rest, costs.prefill_attention, costs.compress):
        values = [curve(tokens) for tokens in range(1, 2 * LONGEST, 7)]
        assert all(math.isfinite(value) and value >= 0 for value in values)
        assert values == sorted(values)
    for batch in range(1, BATCH + 1):
        values = [costs.decode_attention(batch, tokens) for tokens in range(1, 2 * LONGEST, 7)]
        assert all(math.isfinite(value) for value in values)
        assert values == sorted(values)
        assert costs.decode_attention(batch, 200) <= costs.decode_attention(batch + 1, 200)
    assert CostModel.from_dict(costs.to_dict()) == costs


def test_costs_are_those_of_what_is_run(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that known functions move, the cost model is these functions, between measured points too."""
    clock, layers = Clock(), llama.facts.layers

    def attended(contents: LayerContents, call: AttentionCall) -> Tensor:
        contents.room()
        held = sum(part.older.longest + part.residual_tokens for part in contents.parts())
        clock.now += 2e-4 + 1e-6 * held
        return attend_one(contents, call)

    def passed(
        model: PreTrainedModel, facts: ModelFacts, mode: AttentionMode, ids: Tensor, positions: Tensor, keep: range
    ) -> Tensor:
        paced = Paced(mode, clock, (3e-3 + 1e-3 * len(ids)) / layers)
        return packed_logits(model, facts, paced, ids, positions, keep)

    def prefilled(call: AttentionCall) -> Tensor:
        clock.now += 1e-8 * call.query.shape[2] ** 2
        return call.query

    def compressed(plan: Plan, call: AttentionCall, index: int) -> None:
        clock.now += 1e-6 * call.query.shape[2]

    monkeypatch.setattr(decode_costs, "attend_one", attended)
    monkeypatch.setattr(decode_costs, "packed_logits", passed)
    monkeypatch.setattr(prefill, "packed_logits", passed)
    monkeypatch.setattr(prefill, "prefill_attention", prefilled)
    monkeypatch.setattr(prefill, "compress_prompt", compressed)
    costs = meter(llama, now=clock).measure(CompressionConfig())
    for tokens in (1, 7, 50, BATCHED):
        assert costs.rest(tokens) == pytest.approx(3e-3 + 1e-3 * tokens)
    for tokens in (20, 100, 250, LONGEST):
        assert costs.prefill_attention(tokens) == pytest.approx(layers * 1e-8 * tokens**2, rel=0.02)
        assert costs.compress(tokens) == pytest.approx(layers * 1e-6 * tokens, rel=0.02)
    for batch in (1, 2, 6):
        for tokens in (64, 130, 280):
            # What is generated meanwhile, a window or two, comes on top of the tokens.
            value = costs.decode_attention(batch, tokens) / layers / batch
            assert 2e-4 + 1e-6 * (tokens - 1) <= value <= 2e-4 + 1e-6 * (tokens + 40)


def test_a_machine_that_slows_down_changes_no_cost(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its pace when a part is timed, and timed again, costs are those of its first pace."""
    clock, pace = Clock(), [1.0]

    def attended(contents: LayerContents, call: AttentionCall) -> Tensor:
        clock.now += pace[0] * (1e-4 if contents.growth.config.pipeline.is_identity else 3e-4)
        return attend_one(contents, call)

    def passed(
        model: PreTrainedModel, facts: ModelFacts, mode: AttentionMode, ids: Tensor, positions: Tensor, keep: range
    ) -> Tensor:
        return packed_logits(model, facts, Paced(mode, clock, pace[0] * 1e-3 * len(ids)), ids, positions, keep)

    for name, replaced in (("attend_one", attended), ("packed_logits", passed)):
        monkeypatch.setattr(decode_costs, name, replaced)
    monkeypatch.setattr(prefill, "packed_logits", passed)
    monkeypatch.setattr(prefill, "prefill_attention", lambda call: call.query)
    monkeypatch.setattr(prefill, "compress_prompt", lambda plan, call, index: None)
    one = meter(llama, now=clock, thorough=False)
    full = one.measure(CompressionConfig())
    pace[0] = 5.0
    slow = one.measure(config("int4"))
    assert one.moved == pytest.approx(5.0)
    for batch in (1, 8):
        ratio = slow.decode_attention(batch, 100) / full.decode_attention(batch, 100)
        assert ratio == pytest.approx(3.0)
    pace[0] = 0.5
    one.again([CompressionConfig(), config("int4")])
    assert one.measure(config("int4")).decode_attention(8, 100) == pytest.approx(slow.decode_attention(8, 100))


def test_timing_again_takes_turns_and_pools(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outlier of the first time is outvoted; what all configurations share is left as it is."""
    clock, turns, factor = Clock(), [], [9.0]

    def attended(contents: LayerContents, call: AttentionCall) -> Tensor:
        clock.now += 1e-4 * (1.0 if contents.growth.config.pipeline.is_identity else factor[0])
        turns.append(contents.growth.config.pipeline.is_identity)
        return attend_one(contents, call)

    monkeypatch.setattr(decode_costs, "attend_one", attended)
    cache = MemoryCache()
    said: list[str] = []
    one = meter(llama, said, now=clock, thorough=False, cache=cache)
    configs = [CompressionConfig(), config("int4")]
    first = [one.measure(each) for each in configs]
    factor[0] = 2.0
    turns.clear()
    said.clear()
    one.again(configs)
    assert {line.split(" of ")[0] for line in said} == {"attention while decoding", "storing a prompt"}
    changes = sum(before != after for before, after in itertools.pairwise(turns))
    assert changes >= 4 * len([line for line in said if "decoding" in line])
    again = [one.measure(each) for each in configs]
    assert again[0].decode_attention(8, 100) == pytest.approx(first[0].decode_attention(8, 100))
    ratios = [costs[1].decode_attention(1, 100) / costs[0].decode_attention(1, 100) for costs in (first, again)]
    assert ratios[0] == pytest.approx(9.0)
    assert ratios[1] == pytest.approx(2.0)
    assert meter(llama, cache=cache, thorough=False).measure(configs[1]) == again[1]


def test_a_configuration_that_shares_a_stage_shares_its_measurements(llama: LoadedModel) -> None:
    said: list[str] = []
    one = meter(llama, said)
    first = one.measure(config("int4"))
    assert {"a pass without attention", "a step beside its attention"} <= {line.split(" of ")[0] for line in said}
    one.measure(CompressionConfig())
    said.clear()
    assert one.measure(config("int4")) == first
    assert said == []
    one.measure(config("snapkv, int4"))
    kinds = [line.split(" of ")[0] for line in said]
    assert "eviction" in kinds
    assert "storing a prompt" not in kinds
    assert not {"a pass without attention", "a step beside its attention"} & set(kinds)
    assert "attention within a prompt" not in kinds
    said.clear()
    # Another share of the tokens: chosen anew, read as before.
    stages = {**FORMS["snapkv, int4"], "eviction": {**SNAPKV, "keep_ratio": 0.6}}
    one.measure(CompressionConfig.parse({"pipeline": stages}))
    assert {line.split(" of ")[0] for line in said} <= {"eviction", "attention while decoding"}
    assert [line for line in said if line.startswith("attention while decoding")][1:] == []


def test_times_are_found_in_the_database_by_the_next_process(
    llama: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'autokv.db'}"
    said: list[str] = []
    noise = random.Random(1)
    with Database(url) as database:
        clock = Clock(lambda: noise.expovariate(1e3))
        first = meter(llama, said, cache=database.kernel_times, now=clock).measure(config("snapkv, int4"))
    assert said
    said.clear()
    with Database(url) as database:
        assert meter(llama, said, cache=database.kernel_times).measure(config("snapkv, int4")) == first
        assert said == []
        meter(llama, said, cache=database.kernel_times, fingerprint="there").measure(config("snapkv, int4"))
        elsewhere, said[:] = len(said), []
        assert elsewhere > 0
        monkeypatch.setattr(timing, "version", lambda package: "another")
        meter(llama, said, cache=database.kernel_times).measure(config("snapkv, int4"))
        assert len(said) == elsewhere


def test_what_was_measured_before_a_stop_is_kept(llama: LoadedModel) -> None:
    cache, left = MemoryCache(), iter(range(10))

    def check() -> None:
        if next(left, None) is None:
            raise AutoKVError("stopped")

    with pytest.raises(AutoKVError, match="stopped"):
        meter(llama, cache=cache, check=check).measure(CompressionConfig())
    whole_run: list[str] = []
    meter(llama, whole_run).measure(CompressionConfig())
    said: list[str] = []
    meter(llama, said, cache=cache).measure(CompressionConfig())
    assert len(said) == len(whole_run) - 10


@pytest.mark.parametrize("form", FORMS)
def test_bytes_of_a_sequence_are_those_that_a_cache_allocates(form: str, llama: LoadedModel) -> None:
    """Held against a prompt of another length, as the cache of transformers compresses it."""
    sequence = meter(llama).measure(config(form)).sequence
    tokens = 240
    cache = CompressedCache.from_config(llama.model, config(form))
    ids = torch.randint(0, 256, (1, tokens), generator=torch.Generator().manual_seed(0))
    decode(llama.model, ids, cache, 2)
    assert sequence.per_sequence + tokens * sequence.per_token == pytest.approx(cache.nbytes, rel=0.05)
    assert sequence.staged_per_token == (0 if form == "16-bit" else llama.facts.kv_bytes_per_token)


def test_bytes_of_weights_count_what_is_tied_once(tiny_model_folder: Callable[..., Path]) -> None:
    untied, tied = (
        load(str(tiny_model_folder("llama", tie_word_embeddings=tie)), dtype="float32", device="cpu")
        for tie in (False, True)
    )
    vocabulary = 4 * untied.facts.vocab_size * untied.facts.hidden_size
    assert weights_bytes(untied.model) - weights_bytes(tied.model) == vocabulary
    assert activation_bytes(untied.facts, 64, torch.float32) > activation_bytes(untied.facts, 32, torch.float32)
    assert activation_bytes(untied.facts, 64, torch.float32) > activation_bytes(untied.facts, 64, torch.bfloat16)


@pytest.mark.parametrize("form", ["16-bit", "snapkv, int4", "ragged, int4"])
def test_sequences_joined_to_one_batch_of_the_kernels_are_timed(
    form: str, llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on CUDA: one call attends for the whole batch, in every layer by itself."""
    plan, layers = make_plan(llama.model, config(form)), Layers(llama)
    batches: list[int] = []

    def attended(contents: LayerContents, call: AttentionCall) -> Tensor:
        batches.append(contents.batch)
        output = attend_one(contents, call)
        assert output.shape[0] == call.query.shape[0] == contents.batch
        return output

    monkeypatch.setattr(decode_costs, "attend_one", attended)
    monkeypatch.setattr("autokv.evaluation.clock.last_level_cache_bytes", lambda device: 1 << 12)
    times = decode_costs.StepTimes(layers, plan, Stopwatch("here", "cpu", Clock()), LONGEST, BATCH, thorough=True)
    times._joined = True
    with torch.inference_mode():
        times.measure(["prompt", "grown"])
        assert times.leaving() >= 0
    assert set(batches) == {1, BATCH}
    assert times.curve("grown", BATCH)(LONGEST) > 0


def test_keys_depend_on_content_alone() -> None:
    assert key_of({"a": 1, "b": {"c": 2}}) == key_of({"b": {"c": 2}, "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})


def test_a_time_is_the_median_of_its_runs() -> None:
    assert KernelTime.of([3.0, 1.0, 2.0, 9.0, 2.5]) == KernelTime(2.5, 1.0, 5)
    assert KernelTime.of([3.0]) == KernelTime(3.0, 0.0, 1)


@given(st.integers(1, 500), st.integers(1, 5000), st.integers(1, 5000))
def test_ladders_end_where_they_should_and_share_rungs(first: int, last: int, other: int) -> None:
    sizes = ladder(first, last, 4)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == last
    common = min(last, other)
    assert [size for size in sizes if size < common] == [size for size in ladder(first, other, 4) if size < common]


def test_a_square_is_drawn_through_few_points_and_beyond_them() -> None:
    drawn = dict(bent([(16, 256e-9), (32, 1024e-9), (64, 4096e-9)], 500))
    assert max(drawn) == 500
    for size, seconds in drawn.items():
        assert seconds == pytest.approx(1e-9 * size**2, rel=0.02)


def test_a_search_measures_less_and_still_rising_times(llama: LoadedModel) -> None:
    said: dict[bool, list[str]] = {True: [], False: []}
    for thorough, lines in said.items():
        decode_attention = meter(llama, lines, thorough=thorough).measure(config("int4")).decode_attention
        values = [[decode_attention(batch, tokens) for tokens in (64, 300, 600)] for batch in (1, 8)]
        assert all(row == sorted(row) for row in values)
        assert all(one <= many for one, many in zip(*values, strict=True))
        assert values[0][0] > 0
    counts = {key: sum("decoding" in line for line in lines) for key, lines in said.items()}
    assert 0 < counts[False] < counts[True]


def test_what_was_only_disturbed_when_it_was_timed_is_timed_again() -> None:
    taken = iter([0.0, 0.3, 0.001, 0.3, *[0.001] * 20])  # the first run warms up
    stopwatch = Stopwatch("here", "cpu", Clock())
    with stopwatch.used() as key:
        first = stopwatch.seconds({}, {"kind": "k"}, 1, 1, lambda: lambda: Timed(next(taken)), runs=3)
    assert first == 0.3
    stopwatch.again(key, rounds=5)
    assert stopwatch.seconds({}, {"kind": "k"}, 1, 1, lambda: lambda: Timed(9.0)) == 0.001


def test_what_takes_long_by_itself_is_not_timed_again() -> None:
    stopwatch = Stopwatch("here", "cpu", Clock())
    with stopwatch.used() as key:
        stopwatch.seconds({}, {"kind": "k"}, 1, 1, lambda: lambda: Timed(0.3), runs=3)
    asked: list[str] = []
    stopwatch.say = asked.append
    stopwatch.again(key, rounds=5)
    assert not asked


@pytest.mark.parametrize(("spread", "kept"), [(0.01, 0.3), (0.25, 0.001)])
def test_a_stored_time_is_timed_again_where_its_spread_says_that_it_was_disturbed(spread: float, kept: float) -> None:
    cache = MemoryCache()
    stage = {"kind": "k"}
    with (known := Stopwatch("here", "cpu", Clock(), cache)).used() as keys:
        known.seconds({}, stage, 1, 1, lambda: lambda: Timed(0.3), runs=3)
    (key,) = keys
    cache.put(key, {}, KernelTime(0.3, spread, 3))
    stopwatch = Stopwatch("here", "cpu", Clock(), cache)
    stopwatch.seconds({}, stage, 1, 1, lambda: lambda: Timed(0.001))
    stopwatch.again({key}, rounds=5)
    found = cache.get(key)
    assert found is not None
    assert found.seconds == kept
