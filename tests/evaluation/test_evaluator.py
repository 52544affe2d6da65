"""The evaluator against transformers' own caches, masks and attention weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, DynamicCache

from autokv.compression.context import StatisticsNeeded
from autokv.config import CompressionConfig
from autokv.errors import AutoKVError, ModelError, PromptError
from autokv.evaluation import Measurement, Prompt
from autokv.evaluation.continuation import FullContext, continuation_logits, greedy
from autokv.evaluation.evaluator import Evaluator
from autokv.evaluation.snapshot import Snapshot, take_snapshot
from autokv.kernels import Float8, Operands, backend
from autokv.kernels.reconstruct import materialize
from autokv.models import LoadedModel, load
from autokv.runtime import continuing
from autokv.runtime.attention import install

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel

FAMILIES = ["llama", "qwen3", "phi3", "gemma2", "gemma3_text"]
EVERYTHING = StatisticsNeeded(observation_window=8, attention_received=True, query_moments=True)
IDENTITY = CompressionConfig()


def tokens(count: int, seed: int) -> tuple[int, ...]:
    return tuple(torch.randint(0, 256, (count,), generator=torch.Generator().manual_seed(seed)).tolist())


def prompt(context: int = 96, continuation: int = 12, seed: int = 0) -> Prompt:
    return Prompt(f"p{seed}", "text", tokens(context, seed), tokens(continuation, seed + 100))


def config(**stages: object) -> CompressionConfig:
    return CompressionConfig.parse({"pipeline": stages})


@pytest.fixture(params=FAMILIES)
def family(
    request: pytest.FixtureRequest, tiny_model_folder: Callable[..., Path]
) -> tuple[LoadedModel, GenerativeModel]:
    """AutoKV's loaded model, and the same checkpoint as transformers loads it, with eager attention."""
    folder = tiny_model_folder(request.param)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return load(str(folder), dtype="float32", device="cpu"), cast("GenerativeModel", plain)


@pytest.fixture
def llama(tiny_model_folder: Callable[..., Path]) -> LoadedModel:
    return load(str(tiny_model_folder("llama")), dtype="float32", device="cpu")


def snapshot_of(model: LoadedModel, asked: Prompt) -> Snapshot:
    install(model.model)
    return take_snapshot(model, asked, EVERYTHING, backend(model.device))


def test_a_full_context_continues_as_transformers_own_cache_does(family: tuple[LoadedModel, GenerativeModel]) -> None:
    model, plain = family
    asked = prompt()
    snapshot = snapshot_of(model, asked)
    logits = continuation_logits(model, snapshot, asked.continuation or (), [FullContext(snapshot.next_logits)] * 2)
    with torch.inference_mode():
        cache = DynamicCache(config=plain.config)
        first = plain(torch.tensor([asked.context]), past_key_values=cache).logits[0, -1]
        expected = plain(torch.tensor([asked.continuation]), past_key_values=cache).logits[0]
    torch.testing.assert_close(snapshot.next_logits, first, rtol=1e-4, atol=1e-4)
    for row in logits:
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-4)


def test_evicted_tokens_are_as_good_as_masked(family: tuple[LoadedModel, GenerativeModel]) -> None:
    """StreamingLLM drops the same tokens everywhere, so a 4-d attention mask over the full sequence says the same."""
    model, plain = family
    if model.facts.layer_kinds != ("full",) * model.facts.layers:
        pytest.skip("a single mask cannot describe mixed layers")
    asked = prompt()
    evicting = config(eviction={"method": "streaming_llm", "keep_ratio": 0.5, "sink_tokens": 4, "recent_tokens": 8})
    measured = evaluate(model, [evicting], [asked])[0]

    context, total = len(asked.context), len(asked.context) + len(asked.continuation or ())
    ids = torch.tensor([asked.context + (asked.continuation or ())])
    causal = torch.ones(total, total).tril().bool()
    masked = causal.clone()
    masked[context:, 4 : context - 44] = False  # 48 stay: 4 sinks and the newest 44
    with torch.inference_mode():
        full, compressed = (
            plain(ids, attention_mask=torch.where(mask, 0.0, torch.finfo().min)[None, None]).logits[0, context:]
            for mask in (causal, masked)
        )
    expected = (
        F.kl_div(compressed.log_softmax(-1), full.log_softmax(-1), log_target=True, reduction="none").sum(-1).mean()
    )
    assert expected > 1e-4
    assert measured.value("kl_divergence") == pytest.approx(float(expected), rel=2e-2)


def test_prefill_statistics_are_those_of_eager_attention(family: tuple[LoadedModel, GenerativeModel]) -> None:
    model, plain = family
    asked = prompt(context=50)
    snapshot = snapshot_of(model, asked)
    with torch.inference_mode():
        output = plain(torch.tensor([asked.context]), output_attentions=True, use_cache=True)
    for layer in snapshot.full_layers:
        weights = output.attentions[layer.layer][0].view(model.facts.kv_heads, -1, 50, 50)
        received = weights.sum(dim=2).mean(dim=1)
        statistics = layer.context.statistics
        assert statistics.attention_received is not None
        torch.testing.assert_close(statistics.attention_received[0], received, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(layer.keys, output.past_key_values.layers[layer.layer].keys, rtol=1e-4, atol=1e-4)
        # Softmax of the kept window queries over the kept keys must be the model's own attention weights.
        queries, keys = statistics.observed_queries, layer.keys.repeat_interleave(2, dim=1)
        assert queries is not None
        assert queries.shape[2] == 8
        assert layer.context.layer_count == len(snapshot.full_layers)
        if model.facts.attention_softcap is None:
            newest = (queries[0, :, -1:] @ keys[0].transpose(-1, -2) * layer.context.scaling).softmax(-1)
            torch.testing.assert_close(newest[:, 0], output.attentions[layer.layer][0, :, -1], rtol=1e-3, atol=1e-4)


def test_query_moments_are_those_before_rope(llama: LoadedModel) -> None:
    asked = prompt(context=50)
    caught: list[torch.Tensor] = []
    handles = [
        module.register_forward_hook(lambda _m, _i, output: caught.append(output))
        for name, module in llama.model.named_modules()
        if name.endswith("q_proj")
    ]
    snapshot = snapshot_of(llama, asked)
    for handle in handles:
        handle.remove()
    for layer, projected in zip(snapshot.full_layers, caught, strict=True):
        queries = projected[0].view(50, 4, 16)[4:].double()
        statistics = layer.context.statistics
        assert statistics.query_mean is not None
        assert statistics.query_covariance is not None
        torch.testing.assert_close(statistics.query_mean[0].double(), queries.mean(0), rtol=1e-4, atol=1e-4)
        for head in range(4):
            expected = torch.cov(queries[:, head].T, correction=0)
            torch.testing.assert_close(statistics.query_covariance[0, head].double(), expected, rtol=1e-3, atol=1e-3)


def test_greedy_is_transformers_greedy(family: tuple[LoadedModel, GenerativeModel]) -> None:
    model, plain = family
    asked = prompt(context=40)
    snapshot = snapshot_of(model, asked)
    answers = greedy(model, snapshot, [FullContext(snapshot.next_logits)] * 2, 10, frozenset({257}))
    with torch.inference_mode():
        generated = plain.generate(torch.tensor([asked.context]), max_new_tokens=10, do_sample=False, eos_token_id=257)
    expected = [token for token in generated[0, 40:].tolist() if token != 257]
    assert answers == [expected, expected]


def evaluate(
    model: LoadedModel,
    configs: list[CompressionConfig],
    prompts: list[Prompt],
    *,
    timed: bool = True,
    batch: int = 1,
    generate: bool = False,
) -> list[Measurement]:
    results = Evaluator(model, prompts, 12, EVERYTHING, timed=timed, batch=batch, generate=generate).evaluate(configs)
    return [result for result in results if isinstance(result, Measurement)]


def test_identity_loses_nothing_and_holds_16_bits(family: tuple[LoadedModel, GenerativeModel]) -> None:
    model, _ = family
    (measured,) = evaluate(model, [IDENTITY], [prompt(), prompt(seed=1)])
    assert measured.metrics["kl_divergence"].worst < 1e-6
    assert measured.value("top1_agreement") == 1.0
    assert measured.value("compression_ratio") == 1.0
    full = model.facts.full_layers
    sliding = min(24, 96) * (model.facts.layers - len(full))
    per_token = 2 * 2 * model.facts.kv_heads * model.facts.head_dim
    assert measured.value("kv_bytes_per_token") == pytest.approx(per_token * (len(full) * 96 + sliding) / 96)


def test_candidates_that_share_a_pass_get_what_they_get_alone(llama: LoadedModel) -> None:
    configs = [
        IDENTITY,
        config(eviction={"method": "h2o", "keep_ratio": 0.5, "recent_tokens": 8, "head_budget": "adaptive"}),
        config(
            quantization={
                "method": "integer",
                "key": {"bits": 4, "axis": "channel", "group_size": 16},
                "value": {"bits": 2, "axis": "token", "group_size": 16},
                "residual_tokens": 8,
            },
            low_rank={"method": "residual", "key_rank": 2, "value_rank": 2},
        ),
        config(eviction={"method": "expected_attention", "keep_ratio": 0.4, "recent_tokens": 4}),
    ]
    prompts = [prompt(), prompt(context=70, seed=3)]
    together = evaluate(llama, configs, prompts, timed=False)
    for shared, asked in zip(together, configs, strict=True):
        (alone,) = evaluate(llama, [asked], prompts, timed=False)
        assert shared.config == asked
        for name, statistics in alone.metrics.items():
            assert shared.value(name) == pytest.approx(statistics.mean, rel=1e-3, abs=1e-6), name
    losses = [measured.value("kl_divergence") for measured in together]
    assert losses[0] < 1e-6 < min(losses[1:])


def test_more_bits_and_more_tokens_are_never_much_worse(llama: LoadedModel) -> None:
    def quantized(bits: int) -> CompressionConfig:
        side = {"bits": bits, "axis": "token", "group_size": 16}
        return config(quantization={"method": "integer", "key": side, "value": side, "residual_tokens": 0})

    measured = evaluate(llama, [quantized(bits) for bits in (8, 4, 2)], [prompt(seed=5)], timed=False)
    eight, four, two = (result.value("kl_divergence") for result in measured)
    assert eight < four < two
    held = [result.value("kv_bytes_per_token") for result in measured]
    assert held == sorted(held, reverse=True)


def test_timings_are_positive_and_carry_their_baseline(llama: LoadedModel) -> None:
    (measured,) = evaluate(llama, [IDENTITY], [prompt()])
    assert {"attention_us", "attention_baseline_us", "compress_us"} <= measured.metrics.keys()
    assert min(measured.value(name) for name in ("attention_us", "attention_baseline_us", "compress_us")) > 0
    assert measured.samples[0]["attention_us_spread"] >= 0


def test_attention_is_timed_at_the_shortest_the_median_and_the_longest_context(llama: LoadedModel) -> None:
    prompts = [prompt(context=length, seed=length) for length in (90, 40, 60, 50, 80)]
    (measured,) = evaluate(llama, [IDENTITY], prompts, batch=3)
    timed = {sample["context_tokens"]: sample["batch"] for sample in measured.samples if "attention_us" in sample}
    assert timed == {40: 3, 60: 3, 90: 3}
    assert measured.metrics["compress_us"].n == 5
    assert "attention_fp8_us" not in measured.metrics  # CPUs have no fp8


def test_generated_answers_are_compared_with_the_full_caches(llama: LoadedModel) -> None:
    asked = Prompt("task", "needle", tokens(60, 9), None, references=("x",))
    (measured,) = evaluate(llama, [IDENTITY], [asked], timed=False, generate=True)
    assert measured.value("output_length_ratio") == 1.0
    assert "task_score" in measured.metrics


def test_a_candidate_that_cannot_run_leaves_the_others_alone(llama: LoadedModel) -> None:
    impossible = config(eviction={"method": "snapkv", "keep_ratio": 0.1, "recent_tokens": 64})
    evaluator = Evaluator(llama, [prompt()], 12, EVERYTHING, timed=False)
    first, second = evaluator.evaluate([impossible, IDENTITY])
    assert isinstance(first, AutoKVError)
    assert first.field == "pipeline.eviction.keep_ratio"
    assert isinstance(second, Measurement)


def test_a_model_that_gives_nan_is_refused(llama: LoadedModel) -> None:
    with torch.no_grad():
        llama.model.lm_head.weight[3, 5] = torch.nan
    with pytest.raises(ModelError, match=r"llama.*: gives NaN in float32.*check its weights"):
        Evaluator(llama, [prompt()], 12, StatisticsNeeded(), timed=False)


def test_a_candidate_that_gives_nan_is_an_error_of_its_own(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = Evaluator(llama, [prompt()], 12, StatisticsNeeded(), timed=False)

    def broken(held: Operands, dtype: torch.dtype) -> object:
        keys, values, lengths = materialize(held, dtype)
        return keys * (torch.nan if isinstance(held.keys.packed, Float8) else 1.0), values, lengths

    monkeypatch.setattr(continuing, "materialize", broken)
    failed, fine = evaluator.evaluate([config(quantization={"method": "fp8"}), config()])
    assert isinstance(failed, AutoKVError)
    assert "gives NaN on p0" in str(failed)
    assert isinstance(fine, Measurement)


def test_a_context_beyond_the_models_is_refused(llama: LoadedModel) -> None:
    with pytest.raises(PromptError, match="1024"):
        Evaluator(llama, [prompt(context=1020)], 12, EVERYTHING)


def test_a_measurement_survives_json(llama: LoadedModel) -> None:
    (measured,) = evaluate(llama, [IDENTITY], [prompt()])
    assert Measurement.from_dict(measured.to_dict()).to_dict() == measured.to_dict()
