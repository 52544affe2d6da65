"""The second stage: coordinates in fewer bits."""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from torch import Tensor

from autokv.config import (
    AfterPrefill,
    FormatQuantization,
    FP8Quantization,
    IntegerQuantization,
    NoStage,
    Pipeline,
    Quantization,
)
from autokv.kernels import Backend, Packed, Plain, Rows
from autokv.kernels.quantize_pack import HALF_MAX

SideName = Literal["key", "value"]


def quantize(
    coordinates: Tensor,
    older: Rows,
    stage: Quantization,
    side: SideName,
    storage_dtype: torch.dtype,
    kernels: Backend,
    *,
    rotated: bool,
    scale: Tensor | None = None,
) -> Packed:
    """Store ``coordinates`` ``[rows, longest, width]`` as ``stage`` says, in the Hadamard basis if ``rotated``.

    An engine's format is stored as what is read of it, in float32; what the engine holds of it is told by
    :func:`~autokv.compression.compressed.stored_bytes`.

    ``scale``: of fp8, float32 ``[rows]``, where it is not to be found from ``coordinates``.
    """
    match stage:
        case NoStage():
            return Plain(older.to_flat(held(coordinates, storage_dtype)))
        case FP8Quantization():
            return kernels.quantize_float8(coordinates, older, rotated=rotated, scale=scale)
        case FormatQuantization():
            kv_format = stage.key if side == "key" else stage.value
            coordinates = coordinates.float()
            if coordinates.shape[1]:
                coordinates = kv_format.round_trip(coordinates[None])[0]
            return Plain(older.to_flat(coordinates))
        case IntegerQuantization():
            form = stage.key if side == "key" else stage.value
            return kernels.quantize_integers(
                coordinates, older, bits=form.bits, axis=form.axis, group_size=form.group_size, rotated=rotated
            )
    assert_never(stage)


def residual_tokens(stage: Quantization) -> int:
    """Newest tokens of a row that ``stage`` leaves in full precision."""
    return 0 if isinstance(stage, NoStage) else stage.residual_tokens


def prompt_window(pipeline: Pipeline) -> int:
    """Newest tokens of a prompt that stay in the residual window."""
    write = pipeline.write
    starts_empty = isinstance(write, AfterPrefill) and not write.prompt_window
    return 0 if starts_empty else residual_tokens(pipeline.quantization)


def rotates(stage: Quantization) -> bool:
    """Whether ``stage`` rotates what it quantizes; an engine's format rotates by itself."""
    return isinstance(stage, IntegerQuantization | FP8Quantization) and stage.rotation == "hadamard"


def held(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of ``tensor`` in 16 bits that owns exactly its memory; what float16 cannot hold saturates."""
    if dtype == torch.float16 and tensor.dtype != torch.float16:
        tensor = tensor.clamp(-HALF_MAX, HALF_MAX)
    return tensor.to(dtype, memory_format=torch.contiguous_format, copy=True)
