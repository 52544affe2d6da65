"""Integers against a naive per-group reference, and their error bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.kernels import Integers, Rows
from autokv.kernels.operands import Axis
from autokv.kernels.quantize_pack import dequantize, quantize_integers
from autokv.kernels.quantize_pack.packing import packed_bytes
from autokv.kernels.reference import dequantize_row, unpack_token

AXES = st.sampled_from(["channel", "token"])
BITS = st.sampled_from([2, 3, 4, 8])


def sample(rows: int, tokens: int, width: int, seed: int, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    offset = torch.randn(rows, 1, width, generator=generator) * 3
    return (torch.randn(rows, tokens, width, generator=generator) * spread + offset).contiguous()


def groups_of(x: np.ndarray, axis: Axis, size: int) -> list[tuple[slice, slice]]:
    tokens, width = x.shape
    if axis == "channel":
        return [(slice(t, t + size), slice(c, c + 1)) for t in range(0, tokens, size) for c in range(width)]
    return [(slice(t, t + 1), slice(c, c + size)) for t in range(tokens) for c in range(0, width, size)]


def naive_scale_and_minimum(group: np.ndarray, bits: int) -> tuple[np.float16, np.float16]:
    """The float16 nearest below the minimum, and the float16 nearest above what spans the rest."""
    minimum = np.float16(group.min())
    if np.float32(minimum) > group.min():
        minimum = np.nextafter(minimum, np.float16(-np.inf))
    exact = (group.max() - np.float32(minimum)) / np.float32(2**bits - 1)
    scale = np.float16(exact)
    if np.float32(scale) < exact:
        scale = np.nextafter(scale, np.float16(np.inf))
    return scale, minimum


@given(
    bits=BITS,
    axis=AXES,
    tokens=st.integers(1, 37),
    width=st.sampled_from([16, 32, 48]),
    seed=st.integers(0, 999),
    spread=st.sampled_from([1e-4, 1.0, 300.0]),
)
@settings(max_examples=60, deadline=None)
def test_against_the_naive_reference(bits: int, axis: Axis, tokens: int, width: int, seed: int, spread: float) -> None:
    x = sample(1, tokens, width, seed, spread)
    packed = quantize_integers(x, Rows(1, tokens), bits=bits, axis=axis, group_size=16)
    rebuilt = dequantize(packed, Rows(1, tokens))[0].double().numpy()
    codes = np.array([unpack_token(token, bits, width) for token in packed.codes.tolist()])
    exact = x[0].numpy()
    for index, (rows, columns) in enumerate(groups_of(exact, axis, 16)):
        scale, minimum = naive_scale_and_minimum(exact[rows, columns], bits)
        assert packed.scale.flatten()[index].item() == scale
        assert packed.minimum.flatten()[index].item() == minimum
        ideal = (exact[rows, columns].astype(np.float64) - float(minimum)) / max(float(scale), 1e-30)
        assert np.abs(codes[rows, columns] - ideal).max() <= 0.5 + 1e-3
        np.testing.assert_allclose(
            rebuilt[rows, columns], codes[rows, columns] * float(scale) + float(minimum), rtol=1e-5, atol=1e-6 * spread
        )


@given(bits=BITS, axis=AXES, tokens=st.integers(1, 70), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_error_is_at_most_half_a_stored_scale(bits: int, axis: Axis, tokens: int, seed: int) -> None:
    x, rows = sample(2, tokens, 32, seed), Rows(2, tokens)
    packed = quantize_integers(x, rows, bits=bits, axis=axis, group_size=32)
    if axis == "channel":
        scale = packed.scale.view(2, -1, 32).repeat_interleave(32, dim=1)[:, :tokens]
    else:
        scale = packed.scale.view(2, tokens, 1)
    assert ((dequantize(packed, rows) - x).abs() <= scale.float() / 2 + 1e-5).all()


@given(axis=AXES, seed=st.integers(0, 999), tokens=st.integers(12, 50))
@settings(max_examples=30, deadline=None)
def test_more_bits_are_never_worse(axis: Axis, seed: int, tokens: int) -> None:
    x, rows = sample(2, tokens, 16, seed), Rows(2, tokens)
    errors = [
        (dequantize(quantize_integers(x, rows, bits=bits, axis=axis, group_size=16), rows) - x).norm().item()
        for bits in (2, 3, 4, 8)
    ]
    assert errors == sorted(errors, reverse=True)


@given(
    bits=BITS,
    axis=AXES,
    size=st.sampled_from([4, 16]),
    lengths=st.lists(st.integers(0, 40), min_size=2, max_size=4),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_ragged_rows_are_what_each_row_is_alone(
    bits: int, axis: Axis, size: int, lengths: list[int], seed: int
) -> None:
    parts = [sample(1, length, 16, seed + row) for row, length in enumerate(lengths)]
    rows = Rows.of_lengths(torch.tensor(lengths))
    dense = rows.to_dense(torch.cat(parts, dim=1)[0])
    packed = quantize_integers(dense, rows, bits=bits, axis=axis, group_size=size)
    assert packed.codes.shape == (sum(lengths), packed_bytes(16, bits))
    rebuilt = dequantize(packed, rows)
    start = first_group = 0
    for row, (length, part) in enumerate(zip(lengths, parts, strict=True)):
        alone = quantize_integers(part, Rows(1, length), bits=bits, axis=axis, group_size=size)
        expected = dequantize(alone, Rows(1, length))[0]
        assert torch.equal(rebuilt[row, :length], expected)
        naive = dequantize_row(packed, row, start, start + length, first_group)
        torch.testing.assert_close(naive.float(), expected, rtol=1e-5, atol=1e-5)
        start, first_group = start + length, first_group - (-length // size)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("axis", ["channel", "token"])
@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, -2.25, 65504.0, -65504.0, 6e-8, -6e-8, 1e-30, 3e38, -3e38, 1e5])
def test_constant_groups_saturate_and_stay_finite(bits: int, axis: Axis, value: float) -> None:
    rows = Rows(1, 20)
    rebuilt = dequantize(
        quantize_integers(torch.full((1, 20, 16), value), rows, bits=bits, axis=axis, group_size=16), rows
    )
    expected = max(-65504.0, min(65504.0, value))
    assert (rebuilt - expected).abs().max() <= 1.2e-7


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("axis", ["channel", "token"])
@pytest.mark.parametrize(("low", "high"), [(-3e38, 3e38), (-65504, 65504), (0.0, 1e-7), (-1e-6, 65504), (0.0, 1e-40)])
def test_any_range_stays_finite(bits: int, axis: Axis, low: float, high: float) -> None:
    x = torch.linspace(0, 1, 320).view(1, 20, 16) * high + torch.linspace(1, 0, 320).view(1, 20, 16) * low
    rebuilt = dequantize(quantize_integers(x, Rows(1, 20), bits=bits, axis=axis, group_size=16), Rows(1, 20))
    assert rebuilt.isfinite().all()
    assert (rebuilt - x.clamp(-65504, 65504)).abs().max() <= min(high - low, 131008) / (2**bits - 1) * 0.51 + 1e-7


def test_each_axis_isolates_its_own_outliers() -> None:
    def error(x: torch.Tensor, axis: Axis, quiet: tuple[slice, slice, slice]) -> float:
        rows = Rows(1, 64)
        packed = quantize_integers(x, rows, bits=4, axis=axis, group_size=16)
        return (dequantize(packed, rows) - x)[quiet].abs().max().item()

    everything = slice(None)
    channel, token = sample(1, 64, 16, 0, 0.1), sample(1, 64, 16, 0, 0.1)
    channel[:, :, 0] *= 1000
    token[:, 0] *= 1000
    assert error(channel, "channel", (everything, everything, slice(1, 16))) < 0.05
    assert error(channel, "token", (everything, everything, slice(1, 16))) > 1
    assert error(token, "token", (everything, slice(1, 64), everything)) < 0.5
    assert error(token, "channel", (everything, slice(1, 16), everything)) > 2


def test_bytes_are_what_the_format_says() -> None:
    packed = quantize_integers(sample(2, 50, 32, 0), Rows(2, 50), bits=4, axis="channel", group_size=16)
    assert isinstance(packed, Integers)
    assert packed.codes.nbytes == 2 * 50 * 16
    assert packed.scale.shape == packed.minimum.shape == (2 * 4, 32)
    assert packed.scale.dtype == packed.minimum.dtype == torch.float16
    by_token = quantize_integers(sample(2, 50, 32, 0), Rows(2, 50), bits=2, axis="token", group_size=16)
    assert by_token.codes.nbytes == 2 * 50 * 8
    assert by_token.scale.shape == (2 * 50, 2)
