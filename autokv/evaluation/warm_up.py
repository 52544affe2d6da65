"""Precompiling the kernels; on a GPU, their launches are measured too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch

from autokv.compression import LayerContext, compress
from autokv.evaluation.clock import ColdClock
from autokv.evaluation.kernel_shapes import BASIC, FORMATS, AttentionShape
from autokv.evaluation.memory import free_bytes
from autokv.kernels import Backend
from autokv.kernels.autotune import tune

WARMED = (*BASIC, "int4-window", "int4-hadamard", "int4-ragged")
"""Names in :data:`autokv.evaluation.kernel_shapes.FORMATS`."""
BATCHES = (1, 8, 32)
CONTEXTS = (1024, 4096, 16384, 65536)
"""Lengths between them share their launches, which go by powers of two."""
WINDOW = 64
"""Queries of the window scores."""
ROUNDS = 5
MEMORY_SHARE = 0.25
"""Of free memory, for one point's tokens in 16 bits; larger points are left out."""


@dataclass(frozen=True)
class Warmed:
    """One point that was warmed up."""

    shape: str
    batch: int
    context: int
    launches: int
    """Measured and stored."""
    seconds: float


@torch.inference_mode()
def warm_up(
    kernels: Backend,
    device: torch.device,
    shapes: Mapping[str, AttentionShape],
    batches: tuple[int, ...] = BATCHES,
    contexts: tuple[int, ...] = CONTEXTS,
    formats: tuple[str, ...] = WARMED,
) -> Iterator[Warmed]:
    """Tune ``kernels`` point by point, shortest contexts first.

    Raises:
        StorageError: the cache folder cannot be written.
    """
    clock = ColdClock(device)

    def measure(operation: Callable[[], object]) -> float:
        return median(clock.us(operation) for _ in range(ROUNDS))

    for name, shape in shapes.items():
        for context in contexts:
            for batch in batches:
                if _nbytes(shape, batch, context) > MEMORY_SHARE * free_bytes(device):
                    continue
                start = time.perf_counter()
                operations = _operations(kernels, device, shape, batch, context, formats)
                launches = sum(len(tune(operation, measure, device)) for operation in operations)
                yield Warmed(name, batch, context, launches, time.perf_counter() - start)


def _operations(
    kernels: Backend,
    device: torch.device,
    shape: AttentionShape,
    batch: int,
    context: int,
    formats: tuple[str, ...],
) -> Iterator[Callable[[], object]]:
    heads, dim = shape.kv_heads * shape.group, shape.head_dim
    keys, values = torch.randn(2, batch, shape.kv_heads, context, dim, device=device, dtype=torch.bfloat16)
    queries = torch.randn(batch, heads, min(WINDOW, context), dim, device=device, dtype=torch.bfloat16)
    scaling = dim**-0.5
    yield partial(kernels.window_scores, queries, keys, scaling)
    layer = LayerContext(0, 1, scaling, kernels=kernels)
    for name in formats:
        yield partial(compress, keys, values, layer, FORMATS[name])
        operands = compress(keys, values, layer, FORMATS[name]).held
        yield partial(kernels.decode_attention, queries[:, :, -1].contiguous(), (operands,), scaling)


def _nbytes(shape: AttentionShape, batch: int, context: int) -> int:
    return 2 * 2 * batch * shape.kv_heads * context * shape.head_dim
