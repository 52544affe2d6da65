"""What a compressed cache has to beat on a device: the 16-bit cache at its best, and fp8."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from autokv.compression import compress
from autokv.config import CompressionConfig
from autokv.evaluation.clock import ColdClock, Timing
from autokv.evaluation.snapshot import LayerSnapshot
from autokv.kernels import Backend, Operands
from autokv.kernels.decode_attention import eager

Attention16 = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""See :attr:`autokv.kernels.Backend.attention_16bit`."""

UNCOMPRESSED = CompressionConfig()
FLOAT8 = CompressionConfig.parse({"pipeline": {"quantization": {"method": "fp8", "residual_tokens": 0}}})
_SDPA = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
}
_FLOAT8_SINCE = (8, 9)
"""Compute capability of the first devices with fp8 arithmetic."""
_TRIES = 3


def attentions_16bit(kernels: Backend, device: torch.device) -> Mapping[str, Attention16]:
    """The backend's own 16-bit attention first and, on CUDA, every kernel that PyTorch may choose from."""
    own = {kernels.name: kernels.attention_16bit}
    return {**own, **{name: partial(_sdpa, kernel) for name, kernel in _SDPA.items()}} if device.type == "cuda" else own


def fastest_16bit(
    attentions: Mapping[str, Attention16], clock: ColdClock, query: Tensor, keys: Tensor, values: Tensor, scaling: float
) -> str:
    """The name of the fastest of ``attentions`` here; those that refuse these tensors are passed over."""
    if len(attentions) == 1:
        return next(iter(attentions))
    medians: dict[str, float] = {}
    for name, attend in attentions.items():
        try:
            with warnings.catch_warnings(action="ignore"):  # PyTorch says at length why a kernel does not apply
                times = clock.interleaved([partial(attend, query, keys, values, scaling)], _TRIES)
        except RuntimeError:  # this head_dim, dtype or device is none of that kernel's
            continue
        medians[name] = Timing.of(times[0]).median
    return min(medians, key=lambda name: medians[name])


def has_float8(device: torch.device) -> bool:
    """Whether ``device`` computes in fp8."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _FLOAT8_SINCE


def float8(layer: LayerSnapshot) -> Operands:
    """The layer's whole context in fp8."""
    return compress(layer.keys, layer.values, layer.context, FLOAT8).held


def _sdpa(kernel: SDPBackend, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    with sdpa_kernel(kernel):
        return eager.attention_16bit(query, keys, values, scaling)
