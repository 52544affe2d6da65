"""The Triton kernels as one backend, and where they can run."""

from __future__ import annotations

import importlib.util
import os
from functools import cache

import torch

from autokv.errors import RequestError
from autokv.kernels.backend import Backend
from autokv.kernels.decode_attention import eager

OLDEST = (8, 0)
"""Compute capability from which on Triton compiles what the kernels use."""


def obstacle(device: torch.device) -> tuple[str, str] | None:
    """Why Triton kernels cannot run on ``device``, and what to do about it; None if they can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed", "install triton, which there is for Linux, or unset it"
    if device.type != "cuda" and not interpreted():
        return f"Triton kernels do not run on a {device.type} device", "take a CUDA device, or unset it"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < OLDEST:
        return "Triton kernels need a GPU of compute capability 8.0 or later", "unset it"
    return None


def interpreted() -> bool:
    """Whether Triton's interpreter is switched on, which runs its kernels on any device, very slowly."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in {"1", "true", "yes", "on", "y"}


@cache
def multiprocessors(device: torch.device) -> int:
    """Of a CUDA device; 1 for any other."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def triton_backend(device: torch.device) -> Backend:
    """The backend ``triton``.

    Raises:
        RequestError: Triton cannot run on ``device``.
    """
    problem = obstacle(device)
    if problem is not None:
        raise RequestError(problem[0], field="AUTOKV_KERNELS", remedy=problem[1])
    return triton_operations()


@cache
def triton_operations() -> Backend:
    """The backend ``triton``, wherever; Triton itself says where it cannot run. Imports Triton."""
    from autokv.kernels.decode_attention.triton.launch import decode_attention
    from autokv.kernels.evict_gather import triton_kernels as gather
    from autokv.kernels.quantize_pack import triton_quantize
    from autokv.kernels.window_scores import triton_kernels as scores

    return Backend(
        name="triton",
        decode_attention=decode_attention,
        attention_16bit=eager.attention_16bit,
        quantize_integers=triton_quantize.quantize_integers,
        quantize_float8=triton_quantize.quantize_float8,
        evict_gather=gather.evict_gather,
        window_scores=scores.window_scores,
    )
