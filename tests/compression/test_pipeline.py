"""The three stages together: every combination, uniform and ragged, against what must be true of any of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch

from autokv.compression import CompressedKV, LayerContext, compress, statistics_needed
from autokv.config import CompressionConfig
from autokv.errors import ConfigError
from autokv.kernels import BACKENDS, backend

BATCH, QUERY_HEADS, KV_HEADS, HEAD_DIM = 2, 6, 3, 32
CONTEXT = LayerContext(layer_index=0, layer_count=2, scaling=HEAD_DIM**-0.5)


def integer(key: int, value: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "method": "integer",
        "key": {"bits": key, "axis": "channel", "group_size": 16},
        "value": {"bits": value, "axis": "token", "group_size": 16},
        "residual_tokens": 9,
        **changes,
    }


RANDOM = {"method": "random", "keep_ratio": 0.6, "sink_tokens": 2, "recent_tokens": 5}
EVICTIONS: dict[str, dict[str, Any]] = {
    "all": {"method": "none"},
    "uniform": RANDOM,
    "adaptive": {**RANDOM, "head_budget": "adaptive"},
}
QUANTIZATIONS: dict[str, dict[str, Any]] = {
    "16bit": {"method": "none"},
    "int8": integer(8, 8),
    "int4": integer(4, 4, residual_tokens=0),
    "int3": integer(3, 3),
    "int2": integer(2, 2),
    "mixed": integer(4, 2, rotation="hadamard"),
    "swapped": {
        "method": "integer",
        "key": {"bits": 3, "axis": "token", "group_size": 16},
        "value": {"bits": 8, "axis": "channel", "group_size": 32},
        "residual_tokens": 30,
    },
    "fp8": {"method": "fp8"},
    "fp8rotated": {"method": "fp8", "rotation": "hadamard", "residual_tokens": 4},
}
LOW_RANKS: dict[str, dict[str, Any]] = {
    "full": {"method": "none"},
    "residual": {"method": "residual", "key_rank": 4, "value_rank": 2},
    "residual_keys": {"method": "residual", "key_rank": 3, "value_rank": 0},
    "latent": {"method": "latent", "key_rank": 16, "value_rank": 16},
    "latent_values": {"method": "latent", "key_rank": 0, "value_rank": 16},
}
COMBINATIONS = [
    pytest.param({"eviction": e, "quantization": q, "low_rank": r}, id=f"{names[0]}-{names[1]}-{names[2]}")
    for *names, e, q, r in (
        (e, q, r, EVICTIONS[e], QUANTIZATIONS[q], LOW_RANKS[r])
        for e, q, r in itertools.product(EVICTIONS, QUANTIZATIONS, LOW_RANKS)
    )
    if not (q["method"] == "none" and r["method"] == "residual")
]


def tensors(tokens: int = 67, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    keys = torch.randn(BATCH, KV_HEADS, tokens, HEAD_DIM, generator=generator)
    return (keys + 2 * keys[:, :, :1]).to(dtype), torch.randn(keys.shape, generator=generator).to(dtype)


def run(pipeline: dict[str, Any], keys: torch.Tensor, values: torch.Tensor) -> CompressedKV:
    return compress(keys, values, CONTEXT, CompressionConfig.parse({"pipeline": pipeline}))


def held(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from held(getattr(value, field.name))


def allocated(compressed: CompressedKV) -> int:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held(compressed)}
    storages.pop(0, None)
    return sum(storages.values())


@pytest.mark.parametrize("pipeline", COMBINATIONS)
def test_every_combination(pipeline: dict[str, Any]) -> None:
    keys, values = tensors()
    compressed = run(pipeline, keys, values)
    rebuilt_keys, rebuilt_values, lengths = compressed.materialize(torch.float32)

    assert compressed.nbytes == allocated(compressed)
    assert set(compressed.tokens) == {67}
    assert torch.equal(lengths, compressed.held.lengths)
    budget = 67 if pipeline["eviction"]["method"] == "none" else 40
    assert lengths.sum(1).tolist() == [budget * KV_HEADS] * BATCH
    if pipeline["eviction"].get("head_budget") == "adaptive":
        assert lengths.unique().numel() > 1
    assert rebuilt_keys.shape == rebuilt_values.shape == (BATCH, KV_HEADS, int(lengths.max()), HEAD_DIM)

    newest = min(pipeline["quantization"].get("residual_tokens", 0), int(lengths.min()))
    for batch, head in itertools.product(range(BATCH), range(KV_HEADS)):
        positions = compressed.kept_positions(batch, head)
        length = int(lengths[batch, head])
        assert positions.tolist() == sorted(set(positions.tolist()))
        assert len(positions) == length
        for rebuilt, original in ((rebuilt_keys, keys), (rebuilt_values, values)):
            expected = original[batch, head, positions]
            assert torch.equal(
                rebuilt[batch, head, length - newest : length], expected[length - newest :].half().float()
            )
            assert not rebuilt[batch, head, length:].any()
            error = (rebuilt[batch, head, :length] - expected).norm() / expected.norm()
            assert error < (0.8 if pipeline["low_rank"]["method"] == "latent" else 0.4)

    query = torch.randn(BATCH, QUERY_HEADS, HEAD_DIM, generator=torch.Generator().manual_seed(0))
    expected = attention(query, rebuilt_keys, rebuilt_values, lengths)
    for name in BACKENDS:
        output = backend("cpu", name).decode_attention(query, [compressed.held], CONTEXT.scaling).output
        assert (output - expected).norm() / expected.norm() < 5e-3, name


def attention(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Float64, one head at a time."""
    output = torch.empty(query.shape, dtype=torch.float64)
    for batch, head in itertools.product(range(BATCH), range(QUERY_HEADS)):
        kv_head = head // (QUERY_HEADS // KV_HEADS)
        length = int(lengths[batch, kv_head])
        k, v = (side[batch, kv_head, :length].double() for side in (keys, values))
        output[batch, head] = (k @ query[batch, head].double() * CONTEXT.scaling).softmax(0) @ v
    return output


@pytest.mark.parametrize("tokens", [1, 2, 15, 16, 17, 33])
@pytest.mark.parametrize(
    ("quantization", "low_rank"),
    [*itertools.product(["int3", "mixed", "swapped", "fp8"], ["full", "residual", "latent"])],
)
def test_any_token_count(tokens: int, quantization: str, low_rank: str) -> None:
    keys, values = tensors(tokens)
    pipeline = {"quantization": QUANTIZATIONS[quantization], "low_rank": LOW_RANKS[low_rank]}
    compressed = run(pipeline, keys, values)
    assert compressed.nbytes == allocated(compressed)
    rebuilt_keys, rebuilt_values, lengths = compressed.materialize(torch.float32)
    for rebuilt, original in ((rebuilt_keys, keys), (rebuilt_values, values)):
        assert rebuilt.shape == original.shape
        assert (rebuilt - original).norm() < 0.8 * original.norm()
    query = torch.ones(BATCH, QUERY_HEADS, HEAD_DIM)
    expected = attention(query, rebuilt_keys, rebuilt_values, lengths)
    output = backend("cpu").decode_attention(query, [compressed.held], CONTEXT.scaling).output
    assert (output - expected).norm() < 5e-3 * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_identity_is_the_16bit_cache(dtype: torch.dtype) -> None:
    keys, values = tensors(dtype=dtype)
    compressed = run({}, keys, values)
    storage_dtype = torch.float16 if dtype == torch.float32 else dtype
    rebuilt_keys, rebuilt_values, lengths = compressed.materialize(storage_dtype)
    assert torch.equal(rebuilt_keys, keys.to(storage_dtype))
    assert torch.equal(rebuilt_values, values.to(storage_dtype))
    assert compressed.nbytes == allocated(compressed) == 2 * 2 * BATCH * KV_HEADS * 67 * HEAD_DIM
    assert (lengths == 67).all()
    assert compressed.kept_positions(1, 2).tolist() == list(range(67))


def test_bytes_by_hand() -> None:
    keys, values = tensors(73)
    nbytes = run({"quantization": integer(4, 2)}, keys, values).nbytes
    window = 2 * 9 * HEAD_DIM * 2
    key = 64 * HEAD_DIM // 2 + 2 * 2 * HEAD_DIM * 64 // 16
    value = 64 * HEAD_DIM // 4 + 2 * 2 * 64 * HEAD_DIM // 16
    assert nbytes == BATCH * KV_HEADS * (window + key + value)


@pytest.mark.parametrize("name", ["16bit", "int4", "fp8"])
def test_nothing_of_the_input_is_held(name: str) -> None:
    buffer_keys, buffer_values = tensors(200, torch.float16)
    keys, values = buffer_keys[:, :, 20:87], buffer_values[:, :, 20:87]
    compressed = run({"quantization": QUANTIZATIONS[name]}, keys, values)
    assert compressed.nbytes == allocated(compressed)
    before = compressed.materialize(torch.float32)[0].clone()
    buffer_keys.fill_(7)
    assert torch.equal(compressed.materialize(torch.float32)[0], before)


@pytest.mark.parametrize("eviction", ["uniform", "adaptive"])
@pytest.mark.parametrize(
    ("quantization", "low_rank"),
    [
        ("16bit", "full"),
        ("16bit", "latent"),
        *itertools.product(["int3", "mixed", "fp8rotated"], ["full", "residual", "latent"]),
    ],
)
def test_neither_evicted_tokens_nor_fresh_memory_reach_the_result(
    eviction: str, quantization: str, low_rank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = {
        "eviction": EVICTIONS[eviction],
        "quantization": QUANTIZATIONS[quantization],
        "low_rank": LOW_RANKS[low_rank],
    }
    keys, values = tensors()
    query = torch.ones(BATCH, QUERY_HEADS, HEAD_DIM)
    clean = run(pipeline, keys, values)
    evicted = torch.ones(BATCH, KV_HEADS, 67, dtype=torch.bool)
    for batch, head in itertools.product(range(BATCH), range(KV_HEADS)):
        evicted[batch, head, clean.kept_positions(batch, head)] = False
    keys[evicted], values[evicted] = torch.nan, torch.nan

    def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ANN401
        tensor = original(*args, **kwargs)
        return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor.fill_(127)

    original = torch.empty
    monkeypatch.setattr(torch, "empty", poisoned)
    poisoned_run = run(pipeline, keys, values)
    for first, second in zip(
        (*clean.materialize(torch.float32), backend("cpu").decode_attention(query, [clean.held], 0.1).output),
        (
            *poisoned_run.materialize(torch.float32),
            backend("cpu").decode_attention(query, [poisoned_run.held], 0.1).output,
        ),
        strict=True,
    ):
        assert first.isfinite().all()
        assert torch.equal(first, second)


@pytest.mark.parametrize("side", ["key", "value"])
def test_residual_rank_lowers_the_error_to_nothing(side: str) -> None:
    keys, values = tensors()
    index = 0 if side == "key" else 1
    errors = []
    for rank in (1, 4, 16, HEAD_DIM):
        low_rank = {"method": "residual", "key_rank": 0, "value_rank": 0, f"{side}_rank": rank}
        rebuilt = run({"quantization": integer(2, 2), "low_rank": low_rank}, keys, values).materialize(torch.float32)
        errors.append(((rebuilt[index] - (keys, values)[index]).norm() / keys.norm()).item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 < errors[0]


def test_full_rank_latent_is_exact_to_16_bits() -> None:
    keys, values = tensors()
    low_rank = {"method": "latent", "key_rank": HEAD_DIM, "value_rank": HEAD_DIM}
    rebuilt_keys, rebuilt_values, _ = run({"low_rank": low_rank}, keys, values).materialize(torch.float32)
    for rebuilt, original in ((rebuilt_keys, keys), (rebuilt_values, values)):
        assert (rebuilt - original).norm() < 2e-3 * original.norm()


def test_rotation_helps_where_channels_have_outliers() -> None:
    keys, values = tensors()
    values[..., 3] *= 40
    errors = []
    for rotation in ("none", "hadamard"):
        rebuilt = run({"quantization": integer(4, 4, rotation=rotation)}, keys, values).materialize(torch.float32)[1]
        others = [channel for channel in range(16) if channel != 3]
        errors.append((rebuilt - values)[..., others].norm().item())
    assert errors[1] < errors[0] * 0.8


def test_rotation_evens_out_latent_coordinates() -> None:
    keys, values = tensors()
    values *= 0.8 ** torch.arange(HEAD_DIM)
    errors = []
    for rotation in ("none", "hadamard"):
        pipeline = {
            "quantization": integer(4, 3, rotation=rotation),
            "low_rank": {"method": "latent", "key_rank": 0, "value_rank": 16},
        }
        errors.append((run(pipeline, keys, values).materialize(torch.float32)[1] - values).norm().item())
    assert errors[1] < errors[0] * 0.9


def test_gradients_are_not_followed() -> None:
    keys, values = tensors()
    compressed = run({"quantization": QUANTIZATIONS["mixed"]}, keys.requires_grad_(), values)
    assert not any(tensor.requires_grad for tensor in held(compressed))


def test_evicted_bytes_are_freed() -> None:
    keys, values = tensors(64)
    config = {"eviction": {**RANDOM, "keep_ratio": 0.5, "head_budget": "adaptive"}}
    compressed = run(config, keys, values)
    kept = 32 * BATCH * KV_HEADS
    offsets = 8 * (BATCH * KV_HEADS + 1)
    assert compressed.nbytes == kept * HEAD_DIM * 4 + BATCH * KV_HEADS * 64 // 8 + offsets


def test_keeping_every_token_is_no_eviction() -> None:
    keys, values = tensors()
    assert run({"eviction": {**RANDOM, "keep_ratio": 1.0}}, keys, values).nbytes == run({}, keys, values).nbytes


def test_float16_overflow_saturates() -> None:
    keys, values = tensors()
    keys[0, 0, 0, 0] = 1e6
    for quantization in ("16bit", "int8", "int2", "fp8"):
        rebuilt = run({"quantization": QUANTIZATIONS[quantization]}, keys, values).materialize(torch.float32)[0]
        assert rebuilt.isfinite().all()


@pytest.mark.parametrize(
    ("pipeline", "field"),
    [
        ({"low_rank": {"method": "latent", "key_rank": 40, "value_rank": 0}}, "low_rank.key_rank"),
        (
            {"quantization": integer(4, 4), "low_rank": {"method": "residual", "key_rank": 0, "value_rank": 33}},
            "low_rank.value_rank",
        ),
        (
            {"quantization": integer(4, 2) | {"value": {"bits": 2, "axis": "token", "group_size": 64}}},
            "value.group_size",
        ),
        (
            {"quantization": integer(4, 4), "low_rank": {"method": "latent", "key_rank": 4, "value_rank": 20}},
            "value.group_size",
        ),
    ],
)
def test_what_does_not_fit_a_token_is_refused(pipeline: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        run(pipeline, *tensors())


def test_statistics_needed_follow_the_eviction() -> None:
    def needed(eviction: dict[str, Any]) -> Any:  # noqa: ANN401
        return statistics_needed(CompressionConfig.parse({"pipeline": {"eviction": eviction}}))

    assert needed({"method": "none"}).observation_window == 0
    assert needed({"method": "snapkv", "keep_ratio": 0.5, "options": {"window": 48}}).observation_window == 48
    assert needed({"method": "h2o", "keep_ratio": 0.5}).attention_received
