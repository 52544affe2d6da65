"""Timed runs: what is run, in which order and over which memory. Clocks are counted by hand; nothing is timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from autokv.compression import CompressedKV, LayerContext, compress
from autokv.config import CompressionConfig
from autokv.evaluation import clock, latency
from autokv.evaluation.baselines import fastest_16bit
from autokv.evaluation.clock import ASSUMED_CACHE_BYTES, ROUNDS, ColdClock, last_level_cache_bytes
from autokv.evaluation.latency import AttentionTimer
from autokv.evaluation.snapshot import LayerSnapshot
from autokv.kernels import Attention, Operands, backend, held_tensors

Value = TypeVar("Value")
CPU = torch.device("cpu")
TORCH = backend(CPU, "torch")
INT4 = CompressionConfig.parse(
    {
        "pipeline": {
            "eviction": {"method": "knorm", "keep_ratio": 0.5, "recent_tokens": 4, "head_budget": "adaptive"},
            "quantization": {
                "method": "integer",
                "key": {"bits": 4, "axis": "channel", "group_size": 16},
                "value": {"bits": 4, "axis": "token", "group_size": 16},
                "residual_tokens": 8,
            },
        }
    }
)


@pytest.fixture(autouse=True)
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evictions in these tests need not be thorough."""
    monkeypatch.setattr(clock, "last_level_cache_bytes", lambda device: 1 << 12)


def layer(index: int, softcap: float | None = None) -> LayerSnapshot:
    generator = torch.Generator().manual_seed(index)
    keys, values = (torch.randn(1, 2, 50, 32, generator=generator) for _ in range(2))
    query = torch.randn(1, 6, 32, generator=generator)
    return LayerSnapshot(index, keys, values, None, query, LayerContext(index, 3, 32**-0.5, softcap=softcap))


def compressed(layers: list[LayerSnapshot], config: CompressionConfig) -> list[CompressedKV]:
    return [compress(one.keys, one.values, one.context, config) for one in layers]


class Calls:
    """A backend that notes what it is asked to do."""

    def __init__(self) -> None:
        self.held: list[tuple[str, Any, dict[str, Any]]] = []
        self.backend = replace(TORCH, decode_attention=self._decode, attention_16bit=self._full)

    def _decode(
        self,
        query: Tensor,
        parts: Sequence[Operands],
        scaling: float,
        *,
        softcap: float | None = None,
        sliding_window: int | None = None,
    ) -> Attention:
        self.held.append(("compressed", parts[0], {"query": query, "softcap": softcap}))
        return TORCH.decode_attention(query, parts, scaling, softcap=softcap, sliding_window=sliding_window)

    def _full(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        self.held.append(("16-bit", keys, {"query": query, "values": values}))
        return TORCH.attention_16bit(query, keys, values, scaling)


@pytest.mark.parametrize("fp8", [False, True])
def test_contenders_take_turns_over_all_layers(fp8: bool) -> None:
    layers, calls = [layer(0, softcap=3.0), layer(1)], Calls()
    candidates = [compressed(layers, INT4), compressed(layers, CompressionConfig())]
    times = AttentionTimer(calls.backend, CPU, fp8=fp8).time(layers, candidates, 3)
    contenders = 3 + fp8
    assert len(calls.held) == (ROUNDS + 1) * contenders * len(layers)
    a_round = calls.held[: contenders * len(layers)]
    assert [kind for kind, _, _ in a_round] == ["16-bit"] * 2 + ["compressed"] * (2 * contenders - 2)
    for place, call in enumerate(calls.held):
        assert call[1] is a_round[place % len(a_round)][1]
    assert [call[2]["softcap"] for call in a_round[2:]] == [3.0, None] * (contenders - 1)
    assert times.batch == 3
    assert len(times.candidates) == 2
    assert (times.float8 is not None) == fp8
    assert times.baseline.n == ROUNDS
    if fp8:
        codes = a_round[2][1].keys.packed.codes
        assert codes.numel() == 3 * 2 * 50 * 32


def test_every_sequence_of_a_batch_has_memory_of_its_own_and_the_same_tokens() -> None:
    layers, calls = [layer(0)], Calls()
    held = compressed(layers, INT4)
    AttentionTimer(calls.backend, CPU).time(layers, [held], 3)
    (_, keys, baseline), (_, operands, options) = calls.held[:2]
    values = baseline["values"]
    assert keys.shape == values.shape == (3, 2, 50, 32)
    assert keys.dtype == torch.bfloat16
    assert keys.untyped_storage().nbytes() == 3 * 2 * 50 * 32 * 2
    alone = held[0].held
    data = [tensor for tensor in held_tensors(operands) if tensor is not operands.older.offsets]
    single = [tensor for tensor in held_tensors(alone) if tensor is not alone.older.offsets]
    assert sum(tensor.nbytes for tensor in data) == 3 * sum(tensor.nbytes for tensor in single)
    query = options["query"]
    assert query.shape == (3, 6, 32)
    expected = TORCH.decode_attention(query[:1], (alone,), 32**-0.5).output
    found = TORCH.decode_attention(query, (operands,), 32**-0.5).output
    torch.testing.assert_close(found, expected.expand(3, -1, -1))


def test_times_are_of_one_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0

    def passing(microseconds: int, function: Callable[..., Value], *arguments: object, **options: object) -> Value:
        nonlocal now
        now += 1000 * microseconds
        return function(*arguments, **options)

    kernels = replace(
        TORCH,
        decode_attention=partial(passing, 10, TORCH.decode_attention),
        attention_16bit=partial(passing, 25, TORCH.attention_16bit),
    )
    monkeypatch.setattr(clock, "clock_of", lambda device: lambda: now / 1e9)
    layers = [layer(0), layer(1), layer(2)]
    times = AttentionTimer(kernels, CPU).time(layers, [compressed(layers, INT4)], 1)
    assert (times.baseline.median, times.baseline.spread) == pytest.approx((25.0, 0.0))
    assert times.candidates[0].median == pytest.approx(10.0)


def test_a_machine_that_slows_down_changes_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times slower from the second comparison on: times are given as of the first."""
    now, slow = 0, 1

    def passing(microseconds: int, function: Callable[..., Value], *arguments: object, **options: object) -> Value:
        nonlocal now
        now += 1000 * slow * microseconds
        return function(*arguments, **options)

    kernels = replace(
        TORCH,
        decode_attention=partial(passing, 10, TORCH.decode_attention),
        attention_16bit=partial(passing, 25, TORCH.attention_16bit),
    )
    monkeypatch.setattr(clock, "clock_of", lambda device: lambda: now / 1e9)
    layers = [layer(0)]
    usual: dict[int, float] = {}
    timer = AttentionTimer(kernels, CPU)
    first = timer.time(layers, [compressed(layers, INT4)], 2, usual)
    slow = 10
    second = timer.time(layers, [compressed(layers, INT4)], 2, usual)
    assert usual == pytest.approx({2: 25.0})
    assert (first.baseline.median, second.baseline.median) == pytest.approx((25.0, 250.0))
    assert [times.candidates[0].median for times in (first, second)] == pytest.approx([10.0, 10.0])


def test_memory_bounds_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [layer(0)]
    one = 2 * 3 * 2 * layers[0].keys.numel()  # 16 bits; two baselines and a candidate; keys and values
    for free, batch in ((4 * one * 5, 5), (4 * one * 100, 8), (0, 1)):
        monkeypatch.setattr(latency, "free_bytes", lambda device, free=free: free)
        assert AttentionTimer(TORCH, CPU).time(layers, [compressed(layers, INT4)], 8).batch == batch


def test_the_fastest_that_runs_is_the_baseline() -> None:
    class Fixed(ColdClock):
        def us(self, call: Callable[[], object]) -> float:
            call()
            return {"slow": 9.0, "fast": 2.0}[call.func.__name__]  # type: ignore[attr-defined]

    def slow(*arguments: object) -> Tensor:
        return torch.zeros(1)

    def fast(*arguments: object) -> Tensor:
        return torch.zeros(1)

    def none(*arguments: object) -> Tensor:
        raise RuntimeError("no kernel for this head_dim")

    tensors = (torch.zeros(1), torch.zeros(1), torch.zeros(1), 1.0)
    attentions = {"slow": slow, "none": none, "fast": fast}
    assert fastest_16bit(attentions, Fixed(CPU), *tensors) == "fast"


def test_cold_is_what_the_last_level_caches_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOKV_CPU_CACHE_BYTES", raising=False)
    for cpu in range(4):
        for level, size, shared in ((1, "32K", str(cpu)), (3, "8192K", "0-1" if cpu < 2 else "2-3")):
            folder = tmp_path / f"cpu{cpu}" / "cache" / f"index{level}"
            folder.mkdir(parents=True)
            for name, text in (("level", str(level)), ("size", size), ("shared_cpu_list", shared)):
                (folder / name).write_text(f"{text}\n")
    for threads, expected in ((1, 8 << 20), (2, 16 << 20), (8, 16 << 20)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert last_level_cache_bytes(CPU, tmp_path) == expected
    (tmp_path / "cpu0" / "cache" / "index3" / "size").write_text("large\n")
    assert last_level_cache_bytes(CPU, tmp_path) == 16 << 20
    assert last_level_cache_bytes(CPU, tmp_path / "none") == ASSUMED_CACHE_BYTES
    monkeypatch.setenv("AUTOKV_CPU_CACHE_BYTES", str(1 << 20))
    assert last_level_cache_bytes(CPU, tmp_path) == 1 << 20


def test_what_other_processes_take_is_not_the_calls_time() -> None:
    """A call that is held up for a fifth of a second, and one that works as long."""

    def works() -> None:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass

    assert clock.clock_us(lambda: time.sleep(0.2), CPU) < 0.1e6
    assert clock.clock_us(works, CPU) >= 0.2e6
