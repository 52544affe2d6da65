"""TurboQuant: its code book, its presets, the layers that it leaves alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import hadamard as hadamard_of
from scipy.stats import norm
from torch import Tensor

from autokv.formats import FP8E4M3, TurboQuantKey, TurboQuantValue, turboquant, turboquant_uncompressed_layers
from autokv.formats.turboquant import PRESETS, lloyd_max


def sample(head_dim: int = 64) -> Tensor:
    x = torch.randn(1, 2, 9, head_dim, generator=torch.Generator().manual_seed(0)) * 4
    x[0, 1, 3] = 0
    return x


@pytest.mark.parametrize(
    ("bits", "positive"),
    [
        (3, (0.0306229, 0.0944557, 0.1678975, 0.2687937)),
        (4, (0.0160535, 0.0485172, 0.0821100, 0.1178060, 0.1570322, 0.2022352, 0.2585559, 0.3413653)),
    ],
)
def test_the_code_book_is_vllms(bits: int, positive: tuple[float, ...]) -> None:
    assert lloyd_max(64, bits) == pytest.approx([*(-each for each in reversed(positive)), *positive], abs=1e-7)
    assert lloyd_max(256, bits) == pytest.approx([each / 2 for each in lloyd_max(64, bits)], abs=1e-7)


@pytest.mark.parametrize("bits", [3, 4])
def test_each_code_stands_for_the_mean_of_what_it_takes(bits: int) -> None:
    centroids = np.array(lloyd_max(64, bits)) * 8
    edges = [-math.inf, *(centroids[1:] + centroids[:-1]) / 2, math.inf]
    for centroid, low, high in zip(centroids, edges, edges[1:], strict=False):
        mean = quad(lambda z: z * norm.pdf(z), low, high)[0] / (norm.cdf(high) - norm.cdf(low))
        assert centroid == pytest.approx(mean, abs=5e-3)


@pytest.mark.parametrize("bits", [3, 4])
def test_keys_keep_their_norm_and_read_code_book_directions(bits: int) -> None:
    x = sample()
    read = TurboQuantKey.model_validate({"bits": bits}).round_trip(x)
    assert torch.allclose(read.norm(dim=-1), x.norm(dim=-1), rtol=2.0**-10)
    assert not read[0, 1, 3].any()
    basis = hadamard_of(64) / 8
    coordinates = x[0, 0].double().numpy() @ basis / np.linalg.norm(x[0, 0].double().numpy(), axis=-1, keepdims=True)
    book = np.array(lloyd_max(64, bits))
    nearest = book[np.abs(coordinates[..., None] - book).argmin(-1)]
    nearest /= np.linalg.norm(nearest, axis=-1, keepdims=True)
    directions = read[0, 0].double().numpy() @ basis
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    assert np.mean(~np.isclose(directions, nearest, atol=1e-5)) < 0.01


@pytest.mark.parametrize(("bits", "levels"), [(3, 7), (4, 15)])
def test_values_are_min_max_integers(bits: int, levels: int) -> None:
    x = sample().numpy()
    low, high = x.min(-1, keepdims=True), x.max(-1, keepdims=True)
    scale = np.maximum((high - low) / np.float32(levels), np.float32(1e-8))
    codes = np.clip(np.floor((x - low) / scale + np.float32(0.5)), 0, levels)
    expected = codes * scale.astype(np.float16).astype(np.float32) + low.astype(np.float16).astype(np.float32)
    read = TurboQuantValue.model_validate({"bits": bits}).round_trip(torch.from_numpy(x)).numpy()
    assert np.array_equal(read, expected)


@pytest.mark.parametrize(
    ("preset", "of_64", "of_128"),
    [
        ("turboquant_k8v4", 64 + 36, 128 + 68),
        ("turboquant_4bit_nc", 34 + 36, 66 + 68),
        ("turboquant_k3v4_nc", 26 + 36, 50 + 68),
        ("turboquant_3bit_nc", 26 + 28, 50 + 52),
    ],
)
def test_presets_have_vllms_slots(preset: str, of_64: int, of_128: int) -> None:
    key, value = turboquant(preset)
    assert key.nbytes(1, 1, 64) + value.nbytes(1, 1, 64) == of_64
    assert key.nbytes(2, 3, 128) + value.nbytes(2, 3, 128) == 6 * of_128


def test_k8v4_has_float8_keys() -> None:
    assert PRESETS["turboquant_k8v4"][0] == FP8E4M3()


@pytest.mark.parametrize(
    ("layers", "left"), [(30, (0, 1, 28, 29)), (5, (0, 1, 3, 4)), (4, (0, 1, 2, 3)), (3, (0, 2)), (1, ())]
)
def test_the_first_and_last_two_layers_are_left_alone(layers: int, left: tuple[int, ...]) -> None:
    assert turboquant_uncompressed_layers(layers) == left
    assert turboquant_uncompressed_layers(layers, hybrid=True) == ()


def test_widths() -> None:
    with pytest.raises(ValueError, match="power of two of channels, from 8; these have 96"):
        TurboQuantKey(bits=4).check(96)
    with pytest.raises(ValueError, match="multiple of 8 channels; these have 36"):
        TurboQuantValue(bits=3).check(36)
