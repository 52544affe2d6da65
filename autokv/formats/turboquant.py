"""vLLM's TurboQuant: keys as a norm and a code book in a Hadamard basis, values as min-max integers.

A preset is a key format and a value format (:func:`turboquant`); the first and last layers of a model stay as they are
(:func:`turboquant_uncompressed_layers`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from autokv.formats.arithmetic import hadamard, half, power_of_two_in
from autokv.formats.base import KVFormat
from autokv.formats.float8 import FP8E4M3

if TYPE_CHECKING:
    from torch import Tensor

_SOURCE: Final = "https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/"


class TurboQuantKey(KVFormat):
    """The Lloyd–Max quantizer of a normal distribution for each coordinate of the rotated, normalized key.

    The key's norm is a float16. What the codes stand for is brought back to length 1 before the norm is applied
    (``nc``, norm correction).
    """

    title: ClassVar[str] = "TurboQuant keys"
    engines: ClassVar[tuple[str, ...]] = ("vLLM",)
    source: ClassVar[str] = (
        f"{_SOURCE}v1/attention/ops/triton_turboquant_store.py, "
        f"{_SOURCE}model_executor/layers/quantization/turboquant/centroids.py"
    )
    format: Literal["turboquant_key"] = "turboquant_key"

    bits: Literal[3, 4]

    def check(self, head_dim: int, heads: int | None = None) -> None:
        super().check(head_dim, heads)
        if head_dim < 8 or head_dim != power_of_two_in(head_dim):
            raise ValueError(
                f"turboquant_key rotates heads of a power of two of channels, from 8; these have {head_dim}"
            )

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        self.check(head_dim)
        return tokens * heads * (head_dim * self.bits // 8 + 2)

    def round_trip(self, x: Tensor) -> Tensor:
        import torch

        head_dim = x.shape[-1]
        self.check(head_dim)
        centroids = torch.tensor(lloyd_max(head_dim, self.bits), device=x.device)
        norm = x.norm(dim=-1, keepdim=True)
        direction = hadamard(x / (norm + 1e-8), head_dim)
        read = centroids[torch.bucketize(direction, (centroids[1:] + centroids[:-1]) / 2, right=True)]
        read = read / (read.square().sum(-1, keepdim=True) + 1e-16).sqrt()
        return hadamard(half(norm) * read, head_dim)


class TurboQuantValue(KVFormat):
    """Min-max integers over a whole head, with a float16 scale and minimum."""

    title: ClassVar[str] = "TurboQuant values"
    engines: ClassVar[tuple[str, ...]] = ("vLLM",)
    source: ClassVar[str] = f"{_SOURCE}v1/attention/ops/triton_turboquant_store.py"
    width_multiple: ClassVar[int] = 8
    format: Literal["turboquant_value"] = "turboquant_value"

    bits: Literal[3, 4]

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        self.check(head_dim)
        return tokens * heads * (head_dim * self.bits // 8 + 4)

    def round_trip(self, x: Tensor) -> Tensor:
        self.check(x.shape[-1])
        levels = (1 << self.bits) - 1
        low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
        scale = ((high - low) / levels).clamp(min=1e-8)
        codes = ((x - low) / scale + 0.5).trunc().clamp(0, levels)
        return codes * half(scale) + half(low)


@lru_cache(maxsize=16)
def lloyd_max(head_dim: int, bits: int) -> tuple[float, ...]:
    """vLLM's code book: centroids of the Lloyd–Max quantizer of N(0, 1/head_dim), by the trapezoidal rule."""
    import numpy as np
    from scipy.integrate import trapezoid

    levels, sigma = 2**bits, head_dim**-0.5
    reach = 3.5 * sigma
    centroids = -reach + 2 * reach * (np.arange(levels) + 0.5) / levels
    for _ in range(200):
        edges = np.concatenate([[-3 * reach], (centroids[1:] + centroids[:-1]) / 2, [3 * reach]])
        points = np.linspace(edges[:-1], edges[1:], 201)
        density = np.exp(-((points / sigma) ** 2) / 2)
        mass = trapezoid(density, points, axis=0)
        moment = trapezoid(points * density, points, axis=0)
        moved = moment / mass
        settled = np.abs(moved - centroids).max() < 1e-10
        if settled:
            break
        centroids = moved
    return tuple(centroids.tolist())


PRESETS: Final[dict[str, tuple[KVFormat, KVFormat]]] = {
    "turboquant_k8v4": (FP8E4M3(), TurboQuantValue(bits=4)),
    "turboquant_4bit_nc": (TurboQuantKey(bits=4), TurboQuantValue(bits=4)),
    "turboquant_k3v4_nc": (TurboQuantKey(bits=3), TurboQuantValue(bits=4)),
    "turboquant_3bit_nc": (TurboQuantKey(bits=3), TurboQuantValue(bits=3)),
}


def turboquant(preset: str) -> tuple[KVFormat, KVFormat]:
    """The formats of keys and of values of ``--kv-cache-dtype`` ``preset``.

    Raises:
        KeyError: no such preset.
    """
    return PRESETS[preset]


def turboquant_uncompressed_layers(layers: int, *, hybrid: bool = False) -> tuple[int, ...]:
    """Which of a model's ``layers`` vLLM leaves in the model's own type: the first two and the last two.

    At most half of them at either end. None where layers of other kinds stand between those of attention (``hybrid``).
    """
    ends = 0 if hybrid else min(2, layers // 2)
    return tuple(sorted({*range(ends), *range(layers - ends, layers)}))
